// Holds every document of a file against Kubernetes' schemas; prints the first container's words as JSON.
import fs from "node:fs";
import { Deployment } from "kubernetes-models/apps/v1";
import { PersistentVolumeClaim, PodTemplate, Service } from "kubernetes-models/v1";
import { parseAllDocuments } from "yaml";

const kinds = { Deployment, Service, PersistentVolumeClaim };
const documents = parseAllDocuments(fs.readFileSync(process.argv[2], "utf8"), { version: "1.1", strict: true });
let words = null;

function template(pod) {
  new PodTemplate({ apiVersion: "v1", kind: "PodTemplate", template: pod }).validate();
  return pod.spec.containers[0].command;
}

for (const document of documents) {
  if (document.errors.length) throw document.errors[0];
  const value = document.toJSON();
  if (value.kind === "LeaderWorkerSet") {
    const set = value.spec.leaderWorkerTemplate;
    if (!(set.size >= 1)) throw new Error("a group of no pods");
    words = [template(set.leaderTemplate), template(set.workerTemplate)];
  } else {
    new kinds[value.kind](value).validate();
    if (value.kind === "Deployment") words = template(value.spec.template);
  }
}
console.log(JSON.stringify(words));
