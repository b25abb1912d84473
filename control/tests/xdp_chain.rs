//! The operator's programs ahead of `zsync_ingress`: verdict by verdict, change by change, and after a crash at any step.

mod xdp_support;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use aya::{
    TestRun as _, TestRunOptions,
    maps::{Map, MapData, ProgramArray},
    programs::Xdp,
};
use aya_obj::programs::XdpAttachType;
use xdp_support::{Injector, Sandbox, exists, in_sandbox, ipv4, ipv6, steering, udp};
use zsync_control::xdp::{
    ChainVerdict as V, Image, Ingress, Mode, ObjectError, SlotCounts, Steer, XdpError, XdpReason, verify,
};

const HEAD: &str = "#include \"zsync_xdp.h\"\n#include <bpf/bpf_helpers.h>\n\
                    char _license[] SEC(\"license\") = \"MIT OR Apache-2.0\";\n";

/// A folder of objects, compiled from C; it goes with its owner.
struct Objects(PathBuf);

impl Objects {
    fn new() -> Self {
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let folder = std::env::temp_dir().join(format!("zsync-objects-{}-{thread}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Compiles `body` to `NAME.o`.
    fn compile(&self, name: &str, body: &str) -> PathBuf {
        let (source, object) = (self.0.join(format!("{name}.c")), self.0.join(format!("{name}.o")));
        fs::write(&source, format!("{HEAD}{body}\n")).unwrap();
        let ebpf = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("ebpf");
        zsync_ebpf_build::compile_c(&ebpf, &source, &object).unwrap();
        object
    }

    /// A program of that name that returns `value` for everything.
    fn returning(&self, name: &str, value: &str) -> Image {
        let body = format!("SEC(\"xdp\") int {name}(struct xdp_md *ctx) {{ return {value}; }}");
        read(&self.compile(name, &body), name)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(path: &Path, program: &str) -> Image {
    Image::read(path, program, &BTreeMap::new()).unwrap()
}

fn with(path: &Path, program: &str, params: &[(&str, u64)]) -> Result<Image, ObjectError> {
    let params = params.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    Image::read(path, program, &params)
}

fn attached(sandbox: &Sandbox) -> Ingress {
    let mut ingress = Ingress::load(&steering(Steer::All)).unwrap();
    ingress.attach(sandbox.port, &Mode::BEST).unwrap();
    ingress.pin(&sandbox.pins()).unwrap();
    ingress
}

fn frame() -> Vec<u8> {
    ipv4("198.51.100.7", "203.0.113.9", 17, 0, &udp(4000, 53))
}

fn run(ingress: &Ingress, frame: &[u8]) -> u32 {
    let program = ingress.program().unwrap();
    program.test_run(TestRunOptions { data_in: Some(frame), ..Default::default() }).unwrap().return_value
}

fn counted(ingress: &Ingress, slot: usize) -> Vec<(V, u64)> {
    let counts = ingress.chain_counts().unwrap()[slot];
    V::ALL.into_iter().map(|v| (v, counts.of(v))).filter(|(_, packets)| *packets > 0).collect()
}

fn reached_us(ingress: &mut Ingress) -> u64 {
    ingress.counters().unwrap().iter().map(|(_, count)| count.packets).sum()
}

#[test]
fn every_verdict_is_counted_where_it_was_given() {
    in_sandbox(|sandbox| {
        let objects = Objects::new();
        let mut ingress = attached(sandbox);
        let first = objects.returning("first", "zsync_pass_on(ctx)");
        for (value, verdict, action, ours) in [
            ("XDP_ABORTED", V::Aborted, 0, 0),
            ("XDP_DROP", V::Dropped, 1, 0),
            ("XDP_PASS", V::ToKernel, 2, 0),
            ("XDP_TX", V::Transmitted, 3, 0),
            ("XDP_REDIRECT", V::Redirected, 4, 0),
            ("zsync_pass_on(ctx)", V::PassedOn, 2, 1),
            ("77", V::NoVerdict, 0, 0),
            ("-1", V::NoVerdict, 0, 0),
        ] {
            let second = objects.returning("second", value);
            ingress.set_chain(&[first.clone(), second]).unwrap();
            let before = (ingress.chain_counts().unwrap(), reached_us(&mut ingress));
            assert_eq!(run(&ingress, &frame()), action, "{value}");
            let after = ingress.chain_counts().unwrap();
            let more = |slot: usize, v| after[slot].of(v) - before.0[slot].of(v);
            assert_eq!((more(0, V::PassedOn), more(1, verdict)), (1, 1), "{value}");
            for (after, before) in after.iter().zip(&before.0) {
                assert_eq!(after.entered(), before.entered() + 1, "{value}");
            }
            assert_eq!(reached_us(&mut ingress) - before.1, ours, "{value}");
        }
        ingress.detach().unwrap();
        assert!(!exists(&sandbox.pins()));
    });
}

/// All that a change may be: the counters stay with their programs, and those that stay are not loaded again.
#[test]
fn programs_come_go_and_change_places() {
    in_sandbox(|sandbox| {
        let objects = Objects::new();
        let mut ingress = attached(sandbox);
        let on = |name: &str| objects.returning(name, "zsync_pass_on(ctx)");
        let [a, b, c] = [on("a"), on("b"), on("c")];
        let loaded = |ingress: &mut Ingress, chain: &[&Image]| {
            let chain: Vec<Image> = chain.iter().map(|image| (*image).clone()).collect();
            let loaded = ingress.set_chain(&chain).unwrap();
            assert_eq!(ingress.chain(), chain.iter().map(Image::fingerprint).collect::<Vec<_>>());
            assert_eq!(run(ingress, &frame()), 2);
            loaded.len()
        };
        let entered = |ingress: &Ingress| -> Vec<u64> {
            ingress.chain_counts().unwrap().iter().map(SlotCounts::entered).collect()
        };
        assert_eq!(loaded(&mut ingress, &[&a]), 1);
        assert_eq!(loaded(&mut ingress, &[&a, &b]), 1);
        assert_eq!(entered(&ingress), [2, 1]);
        assert_eq!(loaded(&mut ingress, &[&b, &a]), 0);
        assert_eq!(entered(&ingress), [2, 3]);
        assert_eq!(loaded(&mut ingress, &[&b, &c, &a]), 1);
        assert_eq!(entered(&ingress), [3, 1, 4]);
        assert_eq!(loaded(&mut ingress, &[&a]), 0);
        assert_eq!(entered(&ingress), [5]);
        // A new version of one: the counters go on.
        let newer = objects.returning("a", "ctx->data_end ? ZSYNC_PASS_ON : XDP_DROP");
        assert_ne!(newer.fingerprint(), a.fingerprint());
        assert_eq!(loaded(&mut ingress, &[&newer]), 1);
        assert_eq!(entered(&ingress), [6]);
        // Again and again, so that every cell is used.
        for round in 0..18 {
            let pair = if round % 2 == 0 { [&b, &c] } else { [&c, &a] };
            loaded(&mut ingress, &pair);
        }
        // As many as may be.
        let eight: Vec<Image> = (0..8).map(|n| on(&format!("p{n}"))).collect();
        loaded(&mut ingress, &eight.iter().collect::<Vec<_>>());
        let reversed: Vec<&Image> = eight.iter().rev().collect();
        assert_eq!(loaded(&mut ingress, &reversed), 0);
        assert_eq!(entered(&ingress), [2; 8]);
        // And none: the object without a chain.
        assert_eq!(loaded(&mut ingress, &[]), 0);
        assert!(!exists(&sandbox.pins().join("chain")));
        assert_eq!(loaded(&mut ingress, &[&a]), 1);
        assert_eq!(entered(&ingress), [1], "it begins anew");
        ingress.detach().unwrap();
    });
}

#[test]
fn what_the_verifier_refuses_changes_nothing() {
    in_sandbox(|sandbox| {
        let objects = Objects::new();
        let mut ingress = attached(sandbox);
        let bad = "SEC(\"xdp\") int scrub(struct xdp_md *ctx) { return *(int *)(long)ctx->data; }";
        let good = objects.returning("scrub", "XDP_DROP");
        let refused = |ingress: &mut Ingress, chain: &[Image]| {
            let error = ingress.set_chain(chain).unwrap_err();
            assert!(matches!(&error, XdpError::Operator(e) if matches!(**e, ObjectError::Verifier { .. })));
            error.to_string()
        };
        let other = objects.returning("other", "ZSYNC_PASS_ON");
        let broken = read(&objects.compile("scrub", bad), "scrub");
        // When there is no chain yet, and when there is.
        let text = refused(&mut ingress, &[other.clone(), broken.clone()]);
        assert!(text.contains("scrub.o:scrub") && text.contains("invalid access to packet"), "{text}");
        assert!(ingress.chain().is_empty() && !exists(&sandbox.pins().join("chain")));
        assert_eq!(run(&ingress, &frame()), 2);
        ingress.set_chain(std::slice::from_ref(&good)).unwrap();
        let pins = fs::read_dir(sandbox.pins().join("chain")).unwrap().count();
        refused(&mut ingress, &[other, broken.clone()]);
        assert_eq!(ingress.chain(), [good.fingerprint()]);
        assert_eq!(run(&ingress, &frame()), 1);
        assert_eq!(fs::read_dir(sandbox.pins().join("chain")).unwrap().count(), pins);
        // Without putting it anywhere.
        let scratch = sandbox.pins().with_file_name("SCRATCH");
        assert!(verify(&broken, &scratch).unwrap_err().to_string().contains("invalid access to packet"));
        verify(&good, &scratch).unwrap();
        assert!(!exists(&scratch));
        ingress.detach().unwrap();
    });
}

#[test]
fn parameters_are_values_of_globals() {
    in_sandbox(|sandbox| {
        let objects = Objects::new();
        let mut ingress = attached(sandbox);
        let body = "const volatile __u64 limit = 7; volatile __u8 small = 3; static volatile int hidden;\n\
                    SEC(\"xdp\") int act(struct xdp_md *ctx) { hidden++; return limit == 100 ? small : 77; }";
        let path = objects.compile("act", body);
        for (params, action) in [
            (&[][..], 0),
            (&[("limit", 100)], 3),
            (&[("limit", 100), ("small", 1)], 1),
            (&[("limit", 99), ("small", 1)], 0),
        ] {
            ingress.set_chain(&[with(&path, "act", params).unwrap()]).unwrap();
            assert_eq!(run(&ingress, &frame()), action, "{params:?}");
        }
        let wrong = |params| with(&path, "act", params).unwrap_err().to_string();
        let text = wrong(&[("limmit", 1)]);
        assert!(text.contains("\"limmit\"") && text.contains("did you mean \"limit\"?"), "{text}");
        let text = wrong(&[("small", 256)]);
        assert!(text.contains("small") && text.contains("256") && text.contains("1 bytes"), "{text}");
        ingress.detach().unwrap();
    });
}

/// "Compile once, run everywhere": what the running kernel's types say.
#[test]
fn the_kernels_types_are_asked() {
    in_sandbox(|sandbox| {
        let objects = Objects::new();
        let mut ingress = attached(sandbox);
        let body = "#include <bpf/bpf_core_read.h>\n\
                    struct task_struct { int pid; int no_such_field; } __attribute__((preserve_access_index));\n\
                    SEC(\"xdp\") int types(struct xdp_md *ctx) { struct task_struct *t = 0; \
                    return bpf_core_field_exists(t->pid) && !bpf_core_field_exists(t->no_such_field) ? 1 : 3; }";
        ingress.set_chain(&[read(&objects.compile("types", body), "types")]).unwrap();
        assert_eq!(run(&ingress, &frame()), 1);
        ingress.detach().unwrap();
    });
}

#[test]
fn maps_pinned_by_name_outlive_their_programs() {
    in_sandbox(|sandbox| {
        let objects = Objects::new();
        let mut ingress = attached(sandbox);
        let body = |more: &str| {
            format!(
                "struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); \
                 __type(value, __u64); __uint(pinning, LIBBPF_PIN_BY_NAME); }} seen SEC(\".maps\");\n\
                 SEC(\"xdp\") int count(struct xdp_md *ctx) {{ __u32 zero = 0; \
                 __u64 *n = bpf_map_lookup_elem(&seen, &zero); if (!n) return 0; *n += 1; {more} \
                 return *n > 2 ? XDP_DROP : zsync_pass_on(ctx); }}"
            )
        };
        ingress.set_chain(&[read(&objects.compile("count", &body("")), "count")]).unwrap();
        assert_eq!([run(&ingress, &frame()), run(&ingress, &frame())], [2, 2]);
        let newer =
            read(&objects.compile("count", &body("*n += 0 * ctx->rx_queue_index; barrier();")), "count");
        assert_eq!(ingress.set_chain(&[newer]).unwrap().len(), 1);
        assert_eq!(run(&ingress, &frame()), 1, "it does not remember");
        ingress.set_chain(&[objects.returning("other", "ZSYNC_PASS_ON")]).unwrap();
        ingress.set_chain(&[read(&objects.0.join("count.o"), "count")]).unwrap();
        assert_eq!(run(&ingress, &frame()), 2, "the map was to go with the last program of its file");
        ingress.detach().unwrap();
    });
}

#[test]
fn what_cannot_be_a_program_is_told_in_words() {
    in_sandbox(|_| {
        let objects = Objects::new();
        let says = |path: &Path, program: &str, words: &[&str]| {
            let text = with(path, program, &[]).unwrap_err().to_string();
            assert!(text.starts_with(&path.display().to_string()), "{text}");
            for word in words {
                assert!(text.contains(word), "{word:?} is missing from: {text}");
            }
        };
        let good = objects.compile("scrub", "SEC(\"xdp\") int scrub(struct xdp_md *ctx) { return 1; }");
        says(&objects.0.join("none.o"), "scrub", &["No such file"]);
        says(&objects.0, "scrub", &["no regular file"]);
        says(Path::new("/dev/zero"), "scrub", &["no regular file"]);
        says(&objects.0.join("scrub.c"), "scrub", &["no object file", "clang"]);
        says(Path::new("/bin/true"), "scrub", &["an object for", "clang"]);
        says(&good, "srcub", &["no program \"srcub\"", "did you mean \"scrub\"?"]);
        says(&good, "_license", &["no program \"_license\"", "there is: scrub"]);
        for (section, words) in
            [("tc", &["section \"tc\"", "\"xdp\""][..]), ("xdp.frags", &["xdp.frags", "several buffers"])]
        {
            let body = format!("SEC(\"{section}\") int other(void *ctx) {{ return 1; }}");
            let path = objects.compile("other", &body);
            says(&path, "other", words);
        }
        let whole = fs::read(&good).unwrap();
        for length in [0, 3, 64, whole.len() / 2] {
            let cut = objects.0.join("cut.o");
            fs::write(&cut, &whole[..length]).unwrap();
            says(&cut, "scrub", &[]);
        }
        fs::set_permissions(&good, fs::Permissions::from_mode(0o666)).unwrap();
        says(&good, "scrub", &["666", "write", "root's alone"]);
        fs::set_permissions(&good, fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::chown(&good, Some(65534), None).unwrap();
        says(&good, "scrub", &["belongs to user 65534"]);
    });
}

/// The kernel allows 33 tail calls in a row. A program that uses them up keeps the ones behind it from being entered: the packet
/// is dropped, and not let through unseen.
#[test]
fn a_packet_that_cannot_be_handed_on_is_dropped() {
    in_sandbox(|sandbox| {
        let objects = Objects::new();
        let mut ingress = attached(sandbox);
        let body = "struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __type(key, __u32); \
                    __type(value, __u32); __uint(pinning, LIBBPF_PIN_BY_NAME); } own SEC(\".maps\");\n\
                    SEC(\"xdp\") int again(struct xdp_md *ctx) { bpf_tail_call(ctx, &own, 0); return zsync_pass_on(ctx); }";
        let again = read(&objects.compile("again", body), "again");
        let after = objects.returning("after", "zsync_pass_on(ctx)");
        ingress.set_chain(&[again, after]).unwrap();
        assert_eq!(run(&ingress, &frame()), 2);
        let chain = sandbox.pins().join("chain");
        let named = |start: &str| {
            let entries = fs::read_dir(&chain).unwrap().map(|entry| entry.unwrap().path());
            entries
                .into_iter()
                .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(start))
                .unwrap()
        };
        let program = Xdp::from_pin(named("slot_0_"), XdpAttachType::Interface).unwrap();
        let own = Map::from_map_data(MapData::from_pin(named("maps_").join("own")).unwrap()).unwrap();
        ProgramArray::try_from(own).unwrap().set(0, program.fd().unwrap(), 0).unwrap();
        assert_eq!(run(&ingress, &frame()), 0, "aborted");
        assert_eq!(counted(&ingress, 0), [(V::PassedOn, 2)]);
        assert_eq!(counted(&ingress, 1), [(V::PassedOn, 1), (V::NoProgram, 1)]);
        ingress.detach().unwrap();
    });
}

/// The process may die at any step of a change; what the next one finds is either the chain before or the one after.
#[test]
fn a_chain_is_adopted_whatever_was_left() {
    in_sandbox(|sandbox| {
        let objects = Objects::new();
        let pins = sandbox.pins();
        let [drop_all, on] = [objects.returning("all", "XDP_DROP"), objects.returning("on", "ZSYNC_PASS_ON")];
        let mut ingress = attached(sandbox);
        ingress.set_chain(&[on.clone(), drop_all.clone()]).unwrap();
        let injector = Injector::new(sandbox.peer);
        let dropped = |ingress: &Ingress| ingress.chain_counts().unwrap()[1].of(V::Dropped);
        for _ in 0..5 {
            injector.send(&frame());
            injector.send(&ipv6("2001:db8:7::7", "2001:db8:9::9", 17, &udp(4000, 53)));
        }
        drop(ingress);
        injector.send(&frame());
        let mut ingress = Ingress::adopt(&pins, sandbox.port).unwrap();
        assert!(!ingress.upgrade().unwrap());
        assert_eq!(ingress.chain(), [on.fingerprint(), drop_all.fingerprint()]);
        assert_eq!(dropped(&ingress), 11);
        assert_eq!(counted(&ingress, 0), [(V::PassedOn, 11)]);
        assert_eq!(ingress.set_chain(&[on.clone(), drop_all.clone()]).unwrap().len(), 0);
        drop(ingress);

        // A successor that was pinned, and perhaps put in its cell, but whose predecessor is still pinned: the old one stays.
        let chain = pins.join("chain");
        let slot = |cell: &str| {
            let name = fs::read_dir(&chain).unwrap().map(|entry| entry.unwrap().file_name());
            name.map(|name| name.into_string().unwrap()).find(|name| name.starts_with(cell)).unwrap()
        };
        let (old, other) = (slot("slot_1_"), slot("slot_0_"));
        fs::hard_link(chain.join(&other), chain.join(old.replace("slot_1", "new_1"))).unwrap();
        // What never came into the order.
        fs::hard_link(chain.join(&other), chain.join(other.replace("slot_0", "slot_9"))).unwrap();
        let ingress = Ingress::adopt(&pins, sandbox.port).unwrap();
        assert_eq!(ingress.chain(), [on.fingerprint(), drop_all.fingerprint()]);
        injector.send(&frame());
        assert_eq!(dropped(&ingress), 12);
        assert_eq!(fs::read_dir(&chain).unwrap().count(), 5, "three maps and two programs");
        drop(ingress);

        // The predecessor's pin is gone: the new one is in force.
        let newer = other.replace("slot_0", "new_1");
        fs::hard_link(chain.join(&other), chain.join(&newer)).unwrap();
        fs::remove_file(chain.join(&old)).unwrap();
        let mut ingress = Ingress::adopt(&pins, sandbox.port).unwrap();
        assert_eq!(ingress.chain(), [on.fingerprint(), on.fingerprint()]);
        let before = reached_us(&mut ingress);
        injector.send(&frame());
        assert_eq!(reached_us(&mut ingress), before + 1);
        // A pin that somebody removed: what it held stays in force, whatever it is.
        drop(ingress);
        fs::remove_file(chain.join(newer.replace("new_1", "slot_1"))).unwrap();
        let mut ingress = Ingress::adopt(&pins, sandbox.port).unwrap();
        assert_eq!(ingress.chain(), [on.fingerprint(), ""]);
        injector.send(&frame());
        assert_eq!(reached_us(&mut ingress), before + 2);
        // From here on as ever.
        ingress.set_chain(std::slice::from_ref(&drop_all)).unwrap();
        injector.send(&frame());
        assert_eq!(counted(&ingress, 0), [(V::Dropped, 1)]);
        ingress.detach().unwrap();
        assert!(!exists(&pins));
    });
}

/// Under packets all the time: each meets the old program or the new one, and none is missed by both or by zsync's own.
#[test]
fn a_replacement_under_traffic_misses_no_packet() {
    in_sandbox(|sandbox| {
        let objects = Objects::new();
        let mut ingress = attached(sandbox);
        let versions: Vec<Image> = (0..2)
            .map(|n| {
                let value = format!("ctx->rx_queue_index > {} ? XDP_DROP : zsync_pass_on(ctx)", 1000 + n);
                objects.returning("version", &value)
            })
            .collect();
        let guard = objects.returning("guard", "ZSYNC_PASS_ON");
        ingress.set_chain(&[versions[0].clone(), guard.clone()]).unwrap();
        let stop = AtomicBool::new(false);
        let peer = sandbox.peer;
        let sent = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let (injector, frame, mut sent) = (Injector::new(peer), frame(), 0u64);
                while !stop.load(Ordering::Relaxed) {
                    injector.send(&frame);
                    sent += 1;
                }
                sent
            });
            for round in 1..40 {
                let version = versions[round % 2].clone();
                assert_eq!(ingress.set_chain(&[version, guard.clone()]).unwrap().len(), 1);
            }
            stop.store(true, Ordering::Relaxed);
            sender.join().unwrap()
        });
        assert!(sent > 1000, "{sent} packets are no traffic");
        for slot in 0..2 {
            assert_eq!(counted(&ingress, slot), [(V::PassedOn, sent)]);
        }
        assert_eq!(ingress.counters().unwrap().of(XdpReason::FallbackOpen).packets, sent);
        ingress.detach().unwrap();
    });
}
