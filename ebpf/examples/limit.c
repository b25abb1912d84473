// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Drops what one source sends beyond `limit` packets a second, IPv4 and IPv6; everything else goes on.
 *
 *     clang -O2 -g -target bpf -I ebpf/include -I /usr/include/x86_64-linux-gnu -c ebpf/examples/limit.c -o limit.o
 *
 *     [port.wan]
 *     xdp = [ { object = "limit.o", program = "limit_sources", params = { limit = 20000 } } ]
 *
 * The counts are pinned by name: they go on when the program is replaced.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "zsync_xdp.h"

#define SECOND 1000000000ULL

/* Packets that a source may send in a second. */
const volatile __u64 limit = 1000;

struct window {
	__u64 start;
	__u64 packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct in6_addr);
	__type(value, struct window);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} sources SEC(".maps");

/* The packet's source, an IPv4 one as RFC 4291 maps it into IPv6; 0 when it is neither. */
static __always_inline int source_of(struct xdp_md *ctx, struct in6_addr *source)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;

	if ((void *)(ethernet + 1) > end)
		return 0;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end)
			return 0;
		source->in6_u.u6_addr32[0] = source->in6_u.u6_addr32[1] = 0;
		source->in6_u.u6_addr32[2] = bpf_htonl(0xffff);
		source->in6_u.u6_addr32[3] = ip->saddr;
		return 1;
	}
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(ethernet + 1);

		if ((void *)(ip + 1) > end)
			return 0;
		*source = ip->saddr;
		return 1;
	}
	return 0;
}

SEC("xdp")
int limit_sources(struct xdp_md *ctx)
{
	struct in6_addr source;
	struct window *window;
	__u64 now;

	if (!source_of(ctx, &source))
		return zsync_pass_on(ctx);
	now = bpf_ktime_get_ns();
	window = bpf_map_lookup_elem(&sources, &source);
	if (!window) {
		struct window first = { .start = now, .packets = 1 };

		bpf_map_update_elem(&sources, &source, &first, BPF_ANY);
		return zsync_pass_on(ctx);
	}
	/* Two CPUs may begin a window at once: a source then has a few packets more, never fewer. */
	if (now - window->start >= SECOND) {
		window->start = now;
		window->packets = 0;
	}
	if (__sync_fetch_and_add(&window->packets, 1) >= limit)
		return XDP_DROP;
	return zsync_pass_on(ctx);
}

/* No helper used here is reserved for GPL programs. */
char _license[] SEC("license") = "MIT OR Apache-2.0";
