/* What joins the devices of a group: links inside a host, the network between hosts. One rule for formulas and measured curves. */
#include <math.h>
#include <string.h>

#include "speed/compile.h"
#include "speed/kernels.h"

/* Between hosts, unless the hardware says: one port of 400 Gbit/s a GPU (NVIDIA HGX reference design) at what InfiniBand NDR
 * reaches (data/links.csv, ib-ndr). */
static const double port_bytes_per_s = 46.5e9;
/* Without peer access a transfer goes through RAM: two crossings of the slot. */
static const double no_peer_factor = 0.5;

static bool says(const struct pl_compile *c, const char *word)
{
	return c->hw->link && strcasestr(c->hw->link, word);
}

/* GeForce from Ada on has neither NVLink nor peer access over PCIe in the vendor's driver. */
static bool no_peer(const struct pl_compile *c, const struct pl_device *d)
{
	bool geforce = d->gpu && d->vendor == PL_VENDOR_NVIDIA && strstr(d->gpu->name, "GeForce");
	return geforce || says(c, "no-p2p") || says(c, "no p2p");
}

/* A bridge joins two cards in neighbouring slots; boards of a baseboard (SXM, OAM) reach all others. */
static bool bridged(const struct pl_device *d)
{
	return d->gpu && d->gpu->form_factor && strstr(d->gpu->form_factor, "PCIe");
}

static bool has_link(const struct pl_compile *c, const struct pl_device *d, uint32_t n)
{
	bool said = says(c, "nvlink") || says(c, "nvswitch") || says(c, "xgmi") || says(c, "infinity") || says(c, "hccs");
	return said && d->gpu && d->gpu->link_bytes_per_s > 0 && (n <= 2 || !bridged(d) || says(c, "nvswitch"));
}

struct pl_span pl_span_of(const struct pl_compile *c, uint32_t first, uint32_t n)
{
	struct pl_span g = {1, n};
	for (uint32_t i = first + 1; i < first + n && i < c->hw->n_devices; i++)
		g.hosts += c->hw->devices[i].node != c->hw->devices[i - 1].node;
	g.local = n / g.hosts > 1 ? n / g.hosts : 1;
	return g;
}

double pl_link_bytes_per_s(const struct pl_compile *c, uint32_t first, uint32_t n)
{
	const struct pl_device *d = &c->hw->devices[first];
	double pcie = pl_pcie_bytes_per_s(d);
	if (has_link(c, d, n))
		return d->gpu->link_bytes_per_s / 2;
	return no_peer(c, d) ? pcie * no_peer_factor : pcie;
}

double pl_network_bytes_per_s(const struct pl_compile *c)
{
	const struct pl_machine *hw = c->hw;
	double each = hw->n_devices && hw->n_nodes ? (double)hw->n_devices / hw->n_nodes : 1;
	if (hw->net) {
		double port = isnan(hw->net->practical_bytes_per_s) ? hw->net->bytes_per_s : hw->net->practical_bytes_per_s;
		return port * (hw->net_ports ? hw->net_ports : 1) / each;
	}
	return hw->net_bytes_per_s > 0 ? hw->net_bytes_per_s / each : port_bytes_per_s;
}

/* SXM boards sit on an NVSwitch; the measured PCIe cards had nothing else. Kin say nothing about links. */
bool pl_linked(const struct pl_compile *c, const struct pl_kernels *k, const struct pl_device *d, uint32_t n)
{
	bool sxm = d->gpu->form_factor && (strstr(d->gpu->form_factor, "SXM") || strstr(d->gpu->form_factor, "OAM"));
	if (!(d->gpu->link_bytes_per_s > 0))
		return !k->kin && !says(c, "nvlink") && (!no_peer(c, d) || pl_kernel_staged(k, n));
	return (sxm || has_link(c, d, n) || (!c->hw->link && !bridged(d))) && !no_peer(c, d) && !says(c, "pcie");
}
