/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * What an XDP program in C needs to run ahead of zsync on a port; the crate zsync-xdp is the same for Rust.
 *
 * Such a program is any XDP program (section "xdp"). Each of its ways out is a verdict, which is final, or
 *
 *     return zsync_pass_on(ctx);
 *
 * which hands the packet, as it is now, to the next program of the port's chain and, after the last one, to zsync.
 * XDP_PASS is a verdict too: it gives the packet to the kernel, past zsync.
 *
 * Numbers that the configuration sets (params = { limit = 100 }) are globals of the program:
 *
 *     const volatile __u64 limit = 1000;
 *
 * Maps with __uint(pinning, LIBBPF_PIN_BY_NAME) keep their entries when the program is replaced; all others begin empty.
 */
#ifndef ZSYNC_XDP_H
#define ZSYNC_XDP_H

#include <linux/bpf.h>

/* What zsync_pass_on returns: no XDP action. */
#define ZSYNC_PASS_ON 0x7a73

/* Hands the packet to the next program of the chain, when the program returns this. */
static inline __attribute__((always_inline, warn_unused_result)) int zsync_pass_on(struct xdp_md *ctx)
{
	(void)ctx;
	return ZSYNC_PASS_ON;
}

#endif
