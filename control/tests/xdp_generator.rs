//! `zsync_generator`: what it writes, with its checksums, and that the kernel sends it as live frames.

mod xdp_support;

use aya::{
    Ebpf, EbpfLoader, TestRun, TestRunAttrs, TestRunOptions,
    maps::{Array, MapData},
    programs::Xdp,
};
use xdp_support::{in_sandbox, ipv4, ipv6, steering, udp};
use zsync_control::xdp::{GENERATOR_OBJECT, Ingress, Mode, PortSteering, Steer, XdpReason};
use zsync_ebpf_common::{TEMPLATE_BYTES, Template, map};

const ABORTED: u32 = 0;
const REDIRECT: u32 = 4;

fn load(template: Template) -> Ebpf {
    let mut generator = EbpfLoader::new().btf(None).load(GENERATOR_OBJECT).unwrap();
    let mut array: Array<&mut MapData, Template> =
        generator.map_mut(map::TEMPLATE).unwrap().try_into().unwrap();
    array.set(0, template, 0).unwrap();
    let program: &mut Xdp = generator.program_mut("zsync_generator").unwrap().try_into().unwrap();
    program.load().unwrap();
    generator
}

fn program(generator: &Ebpf) -> &Xdp {
    generator.program("zsync_generator").unwrap().try_into().unwrap()
}

/// One frame of 80 bytes of 0xee, as the generator leaves it.
fn generate(generator: &Ebpf) -> Vec<u8> {
    let mut out = vec![0; 80];
    let options =
        TestRunOptions { data_in: Some(&[0xee; 80]), data_out: Some(&mut out), ..Default::default() };
    let run = program(generator).test_run(options).unwrap();
    assert_eq!((run.return_value, run.data_size_out), (REDIRECT, 80));
    out
}

fn template(frame: &[u8], ip_checksum_at: u32, destination_at: u32, l4_at: u32) -> Template {
    let mut bytes = [0; TEMPLATE_BYTES];
    bytes[..frame.len()].copy_from_slice(frame);
    Template {
        ifindex: 1,
        length: frame.len().next_multiple_of(8) as u32,
        flows: 3,
        destinations: 5,
        source_port_at: l4_at,
        destination_at,
        ip_checksum_at,
        l4_checksum_at: l4_at + 6,
        payload_at: 0,
        payload_bytes: 0,
        bytes,
    }
}

/// The one's complement sum of RFC 1071, over a whole range with its checksum: 0xffff when it is right.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn flows_and_destinations_vary_and_checksums_follow() {
    in_sandbox(|_| {
        // Both wrap: the source port past 65535, the destination past a 16-bit half.
        let datagram = udp(65534, 9);
        let mut frame4 = ipv4("192.0.2.1", "198.18.255.254", 17, 0, &datagram);
        let checksum = !sum(&[&frame4[14..34]]);
        frame4[24..26].copy_from_slice(&checksum.to_be_bytes());
        let mut frame6 = ipv6("2001:db8::1", "2001:db8::ffff:fffe", 17, &datagram);
        let length = [0, 17, 0, 12];
        for (frame, addresses, l4) in [(&mut frame4, 26..34, 34), (&mut frame6, 22..54, 54)] {
            let checksum = !sum(&[&frame[addresses], &length, &frame[l4..]]);
            frame[l4 + 6..l4 + 8].copy_from_slice(&checksum.to_be_bytes());
        }

        for (frame, addresses, l4, ip_checksum) in [(&frame4, 26..34, 34, 24), (&frame6, 22..54, 54, 0)] {
            let destination_at = addresses.end - 4;
            let generator = load(template(frame, ip_checksum, destination_at as u32, l4 as u32));
            // A test run may move to another CPU, whose numbers start anew: so look at what is seen, not in which order.
            let mut ports = std::collections::BTreeSet::new();
            let mut destinations = std::collections::BTreeSet::new();
            for _ in 0..200 {
                let out = generate(&generator);
                assert_eq!(sum(&[&out[addresses.clone()], &length, &out[l4..l4 + 12]]), 0xffff, "{out:02x?}");
                if ip_checksum != 0 {
                    assert_eq!(sum(&[&out[14..34]]), 0xffff, "{out:02x?}");
                }
                ports.insert(u16::from_be_bytes([out[l4], out[l4 + 1]]));
                destinations.insert(out[destination_at..][..4].to_vec());
                assert_eq!(
                    out[..destination_at],
                    *[&frame[..24], &out[24..26], &frame[26..destination_at]].concat()
                );
                assert_eq!(
                    out[frame.len().next_multiple_of(8)..],
                    [0xee; 80][frame.len().next_multiple_of(8)..]
                );
            }
            assert_eq!(Vec::from_iter(ports), [0, 65534, 65535]);
            assert_eq!(destinations.len(), 5);
        }
    });
}

#[test]
fn a_frame_shorter_than_the_template_is_not_sent() {
    in_sandbox(|_| {
        let generator = load(template(&ipv4("192.0.2.1", "198.18.0.1", 17, 0, &udp(1, 2)), 24, 30, 34));
        let options = TestRunOptions { data_in: Some(&[0; 47]), ..Default::default() };
        assert_eq!(program(&generator).test_run(options).unwrap().return_value, ABORTED);
        let options = TestRunOptions { data_in: Some(&[0; 48]), ..Default::default() };
        assert_eq!(program(&generator).test_run(options).unwrap().return_value, REDIRECT);
    });
}

#[test]
fn the_kernel_sends_live_frames() {
    in_sandbox(|sandbox| {
        const FRAMES: u32 = 10_000;
        let closed = PortSteering { fallback_open: false, ..steering(Steer::All) };
        let mut ingress = Ingress::load(&closed).unwrap();
        ingress.attach(sandbox.port, &[Mode::Native]).unwrap();
        let mut template = template(&ipv4("192.0.2.1", "198.18.0.1", 17, 0, &udp(1, 2)), 24, 30, 34);
        template.ifindex = sandbox.peer;
        let generator = load(template);
        let options = TestRunOptions {
            data_in: Some(&[0; 64]),
            repeat: FRAMES,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..Default::default()
        };
        program(&generator).test_run(options).unwrap();
        let count = ingress.counters().unwrap().of(XdpReason::FallbackClosed);
        assert_eq!((count.packets, count.bytes), (FRAMES.into(), u64::from(FRAMES) * 64));
    });
}
