use super::*;

fn traffic(source: &str, destination: &str, size: usize) -> Traffic {
    Traffic {
        ifindex: 7,
        source_mac: [2; 6],
        destination_mac: [4; 6],
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        size,
        flows: 3,
    }
}

#[test]
fn the_template_is_the_headers_in_whole_words() {
    let (v4, frame) = template(&traffic("192.0.2.1:1024", "198.18.0.1:9", 60)).unwrap();
    assert_eq!((v4.length, v4.source_port_at, v4.ip_checksum_at, v4.l4_checksum_at), (48, 34, 24, 0));
    assert_eq!((frame.len(), &v4.bytes[..48]), (60, &frame[..48]));
    assert_eq!(&v4.bytes[40..42], [0, 0], "no checksum to keep up");
    let (v6, _) = template(&traffic("[2001:db8::1]:1024", "[2001:db8::2]:9", 78)).unwrap();
    assert_eq!((v6.length, v6.source_port_at, v6.ip_checksum_at, v6.l4_checksum_at), (64, 54, 0, 60));
}

/// Times over a millisecond without a packet, and the longest, in which the counter was read and stood still: so what
/// kept the reader from its core is no gap.
fn gaps(counted: &[(Duration, u64)]) -> (usize, Duration) {
    let still = counted.chunk_by(|one, next| one.1 == next.1).map(|same| same[same.len() - 1].0 - same[0].0);
    let long: Vec<_> = still.filter(|time| *time > Duration::from_millis(1)).collect();
    (long.len(), long.into_iter().max().unwrap_or_default())
}

#[test]
#[ignore = "a measurement of a quiet machine with two cores, in a network namespace: unshare -n"]
fn the_far_end_of_a_veth_sees_no_gaps() {
    let run = |line: &str| {
        let mut words = line.split(' ');
        let mut command = std::process::Command::new(words.next().unwrap());
        assert!(command.args(words).status().unwrap().success(), "{line}");
    };
    let devices = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    assert!(devices().lines().count() <= 4, "not in a namespace of its own");
    // A veth takes redirected frames only when its peer has a NAPI: an XDP program, or GRO.
    for line in [
        "ip link add ga type veth peer name gb",
        "ip link set gb addrgenmode none",
        "ip link set ga up",
        "ip link set gb up",
        "ethtool -K gb gro on",
    ] {
        run(line);
    }
    // Not from /sys, which may be another namespace's.
    let shown = std::process::Command::new("ip").args(["-o", "link", "show", "ga"]).output().unwrap();
    let ifindex = String::from_utf8_lossy(&shown.stdout).split(':').next().unwrap().parse().unwrap();
    let traffic = Traffic { ifindex, ..traffic("192.0.2.1:1024", "198.18.0.1:9", 60) };
    let generator = Arc::new(Generator::load(&traffic).unwrap());
    let received = || {
        let text = devices();
        let line = text.lines().find_map(|line| line.trim().strip_prefix("gb:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
    for alone in [true, false, true, false] {
        let (before, start) = (received(), Instant::now());
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, stopped) = (Arc::clone(&generator), Arc::clone(&stop));
        let sending = std::thread::spawn(move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
            let time = Duration::from_secs(4);
            if alone { sender.send(time, &stopped) } else { sender.run(time, &stopped) }
        });
        while received() == before {}
        let mut counted = Vec::new();
        while start.elapsed() < Duration::from_millis(3500) {
            counted.push((start.elapsed(), received()));
        }
        stop.store(true, Ordering::Relaxed);
        sending.join().unwrap().unwrap();
        let ((from, first), (to, last)) = (counted[0], counted[counted.len() - 1]);
        let rate = (last - first) as f64 / (to - from).as_secs_f64();
        let (gaps, longest) = gaps(&counted);
        println!(
            "{}: {rate:.0} packets/s in {} ms; {gaps} gaps of more than 1 ms, the longest {longest:?}",
            if alone { "one thread" } else { "two threads" },
            (to - from).as_millis(),
        );
    }
    run("ip link del ga");
}

#[test]
fn refuses_frames_that_cannot_be() {
    assert!(template(&traffic("192.0.2.1:1024", "198.18.0.1:9", 41)).is_err());
    assert!(template(&traffic("192.0.2.1:1024", "198.18.0.1:9", 45)).is_err());
    assert!(template(&traffic("192.0.2.1:1024", "[2001:db8::2]:9", 80)).is_err());
}
