//! The life of an [`Ingress`] on a device: attach, pin, adopt, upgrade, detach; and steering while packets flow.

mod xdp_support;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use aya::{EbpfLoader, programs::Xdp};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use xdp_support::{Injector, exists, in_sandbox, ip, ipv4, prefix, steering, udp};
use zsync_control::xdp::{
    GENERATOR_OBJECT, Ingress, Mode, PortSteering, Steer, XdpError, XdpReason, attached_program,
};

fn closed() -> PortSteering {
    PortSteering { fallback_open: false, ..steering(Steer::All) }
}

#[test]
fn attach_pin_adopt_detach() {
    in_sandbox(|sandbox| {
        let pins = sandbox.pins();
        let mut ingress = Ingress::load(&closed()).unwrap();
        assert!(matches!(ingress.pin(&pins), Err(XdpError::State(_))), "pinned before it was attached");
        let attached = ingress.attach(sandbox.port, &Mode::BEST).unwrap();
        assert_eq!(attached.mode, Mode::Native);
        assert!(attached.refused.is_empty());
        let id = ingress.program_id().unwrap();
        let program = attached_program(sandbox.port).unwrap().unwrap();
        assert_eq!(
            (program.id, program.name.as_deref(), program.mode),
            (id, Some("zsync_ingress"), Mode::Native)
        );
        ingress.pin(&pins).unwrap();

        // What a process that dies leaves: the link, the rules, the counters.
        drop(ingress);
        assert_eq!(attached_program(sandbox.port).unwrap().unwrap().id, id);
        let injector = Injector::new(sandbox.peer);
        for _ in 0..10 {
            injector.send(&ipv4("198.51.100.7", "203.0.113.9", 17, 0, &udp(1, 2)));
        }
        assert!(matches!(
            Ingress::adopt(&pins, sandbox.peer),
            Err(XdpError::NotAttached { attached: None, .. })
        ));
        let mut ingress = Ingress::adopt(&pins, sandbox.port).unwrap();
        assert_eq!(ingress.program_id().unwrap(), id);
        assert_eq!(ingress.counters().unwrap().of(XdpReason::FallbackClosed).packets, 10);

        // The same program: nothing to upgrade. Rules apply to the adopted maps.
        assert!(!ingress.upgrade().unwrap());
        ingress.apply_steering(&steering(Steer::All)).unwrap();
        injector.send(&ipv4("198.51.100.7", "203.0.113.9", 17, 0, &udp(1, 2)));
        assert_eq!(ingress.counters().unwrap().of(XdpReason::FallbackOpen).packets, 1);
        ingress.clear_sockets().unwrap();

        ingress.detach().unwrap();
        assert_eq!(attached_program(sandbox.port).unwrap(), None);
        assert!(!exists(&pins));
        assert!(matches!(Ingress::adopt(&pins, sandbox.port), Err(XdpError::NotPinned { .. })));
    });
}

/// A pinned program that is not the link's is what an older build, or an upgrade cut short, leaves.
#[test]
fn an_upgrade_replaces_the_program_under_the_link() {
    in_sandbox(|sandbox| {
        let pins = sandbox.pins();
        let injector = Injector::new(sandbox.peer);
        let mut old = Ingress::load(&closed()).unwrap();
        old.attach(sandbox.port, &Mode::BEST).unwrap();
        old.pin(&pins).unwrap();
        let old_id = old.program_id().unwrap();
        injector.send(&ipv4("198.51.100.7", "203.0.113.9", 17, 0, &udp(1, 2)));
        drop(old);
        std::fs::remove_file(pins.join("program")).unwrap();
        let mut other = EbpfLoader::new().btf(None).load(GENERATOR_OBJECT).unwrap();
        let other: &mut Xdp = other.program_mut("zsync_generator").unwrap().try_into().unwrap();
        other.load().unwrap();
        other.pin(pins.join("program")).unwrap();

        let mut ingress = Ingress::adopt(&pins, sandbox.port).unwrap();
        assert!(ingress.upgrade().unwrap());
        let id = ingress.program_id().unwrap();
        assert_ne!(id, old_id);
        assert_eq!(attached_program(sandbox.port).unwrap().unwrap().id, id);
        injector.send(&ipv4("198.51.100.7", "203.0.113.9", 17, 0, &udp(1, 2)));
        assert_eq!(ingress.counters().unwrap().of(XdpReason::FallbackClosed).packets, 2, "other maps");
        drop(ingress);
        let mut ingress = Ingress::adopt(&pins, sandbox.port).unwrap();
        assert!(!ingress.upgrade().unwrap(), "the new program was not pinned");
        ingress.detach().unwrap();
    });
}

#[test]
fn unpinned_it_ends_with_its_owner() {
    in_sandbox(|sandbox| {
        let mut ingress = Ingress::load(&closed()).unwrap();
        ingress.attach(sandbox.port, &[Mode::Generic]).unwrap();
        assert_eq!(attached_program(sandbox.port).unwrap().unwrap().mode, Mode::Generic);
        drop(ingress);
        assert_eq!(attached_program(sandbox.port).unwrap(), None);
    });
}

#[test]
fn another_program_is_named_and_left_alone() {
    in_sandbox(|sandbox| {
        let mut first = Ingress::load(&closed()).unwrap();
        first.attach(sandbox.port, &Mode::BEST).unwrap();
        let id = first.program_id().unwrap();
        let mut second = Ingress::load(&closed()).unwrap();
        let error = second.attach(sandbox.port, &Mode::BEST).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "port already has an XDP program attached: program {id} \"zsync_ingress\" (native); \
                 remove it, or ask to replace it"
            )
        );
        assert_eq!(first.program_id().unwrap(), id);
        // A link is its owner's: not even asking removes it.
        let refused = zsync_control::xdp::remove_netlink_program(sandbox.port);
        assert!(matches!(refused, Err(XdpError::Occupied { .. })), "{refused:?}");
        let gone = second.attach(9_999_999, &Mode::BEST).unwrap_err();
        assert!(matches!(gone, XdpError::NoDevice { ifindex: 9_999_999 }), "{gone}");
    });
}

#[test]
fn pins_that_are_in_the_way_are_not_overwritten() {
    in_sandbox(|sandbox| {
        let pins = sandbox.pins();
        let mut first = Ingress::load(&closed()).unwrap();
        first.attach(sandbox.port, &Mode::BEST).unwrap();
        first.pin(&pins).unwrap();
        let mut second = Ingress::load(&closed()).unwrap();
        second.attach(sandbox.peer, &Mode::BEST).unwrap();
        assert!(matches!(second.pin(&pins), Err(XdpError::Pin { .. })));
        drop((first, second));
        assert!(attached_program(sandbox.port).unwrap().is_some(), "the first one's pins are gone");
        assert!(attached_program(sandbox.peer).unwrap().is_none());

        // A device that went and came back: the pins are stale, and say so.
        ip("link del port");
        ip("link add port type veth peer name peer");
        let ifindex = (1..64).find(|i| attached_program(*i).is_ok() && *i != 1).unwrap();
        assert!(matches!(Ingress::adopt(&pins, ifindex), Err(XdpError::NotAttached { .. })));
        Ingress::remove_pins(&pins, ifindex).unwrap();
        assert!(!exists(&pins));
        Ingress::remove_pins(&pins, ifindex).unwrap();
    });
}

#[test]
fn a_large_mtu_is_named() {
    in_sandbox(|sandbox| {
        // A veth counts its peer's MTU (drivers/net/veth.c, veth_xdp_set).
        ip("link set peer mtu 9000");
        ip("link set port mtu 9000");
        let mut ingress = Ingress::load(&closed()).unwrap();
        let error = ingress.attach(sandbox.port, &[Mode::Native]).unwrap_err();
        assert!(matches!(error, XdpError::Mtu { mtu: 9000, mode: Mode::Native, .. }), "{error}");
        let attached = ingress.attach(sandbox.port, &Mode::BEST).unwrap();
        assert_eq!(attached.mode, Mode::Generic);
        assert!(matches!(attached.refused[..], [XdpError::Mtu { .. }]));
    });
}

/// Runs `body` in a thread of the same namespaces that has only these capabilities.
fn with_only(effective: CapabilitySet, body: impl FnOnce() + Send) {
    let outcome = thread::scope(|scope| {
        let limited = scope.spawn(|| {
            let sets =
                CapabilitySets { effective, permitted: effective, inheritable: CapabilitySet::empty() };
            set_capabilities(None, sets).unwrap();
            body();
        });
        limited.join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn two_capabilities_are_enough() {
    in_sandbox(|sandbox| {
        with_only(CapabilitySet::BPF | CapabilitySet::NET_ADMIN, || {
            let pins = sandbox.pins();
            let mut ingress = Ingress::load(&closed()).unwrap();
            ingress.attach(sandbox.port, &Mode::BEST).unwrap();
            ingress.pin(&pins).unwrap();
            drop(ingress);
            let mut ingress = Ingress::adopt(&pins, sandbox.port).unwrap();
            ingress.upgrade().unwrap();
            ingress.set_local(&["192.0.2.1".parse().unwrap()]).unwrap();
            // The name takes CAP_SYS_ADMIN.
            assert_eq!(attached_program(sandbox.port).unwrap().unwrap().name, None);
            ingress.detach().unwrap();
        });
    });
}

#[test]
fn the_missing_capability_is_named() {
    in_sandbox(|_| {
        for (only, missing) in [(CapabilitySet::NET_ADMIN, "CAP_BPF"), (CapabilitySet::BPF, "CAP_NET_ADMIN")]
        {
            with_only(only, || {
                let error = Ingress::load(&closed()).unwrap_err();
                let expected = format!("this process lacks {missing}");
                assert!(
                    matches!(&error, XdpError::NotPermitted { reason, .. } if *reason == expected),
                    "{error}"
                );
            });
        }
    });
}

/// Packets of a blocked source, while the lists change around its entry: none gets through, at any instant.
#[test]
fn no_update_opens_a_gap() {
    in_sandbox(|sandbox| {
        let block = |more: &[&str]| {
            let block = ["198.51.100.0/24"].iter().chain(more).map(|text| prefix(text)).collect();
            PortSteering { block, ..closed() }
        };
        let (one, other) = (block(&["10.0.0.0/8", "192.168.0.0/16"]), block(&["172.16.0.0/12"]));
        let mut ingress = Ingress::load(&one).unwrap();
        ingress.attach(sandbox.port, &Mode::BEST).unwrap();

        let injector = Injector::new(sandbox.peer);
        let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let frame = ipv4("198.51.100.7", "203.0.113.9", 17, 0, &udp(1, 2));
                while !stop.load(Ordering::Relaxed) {
                    injector.send(&frame);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
            for round in 0..400 {
                let steer = match round % 3 {
                    0 => Steer::All,
                    1 => Steer::Prefixes(vec![prefix("203.0.113.0/24")]),
                    _ => Steer::Ports(vec![(17, 2)]),
                };
                let rules = if round % 2 == 0 { &other } else { &one };
                ingress.apply_steering(&PortSteering { steer, ..rules.clone() }).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let counters = ingress.counters().unwrap();
        let blocked = counters.of(XdpReason::DroppedBlocked).packets;
        assert!(blocked > 0);
        assert_eq!(blocked, sent.load(Ordering::Relaxed), "{:?}", counters.iter().collect::<Vec<_>>());
    });
}
