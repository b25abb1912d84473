//! Which cores the workers run on.
//!
//! Near the ports: the cores of their NUMA node that share a last-level cache, one worker per physical core, never two on
//! one core's hyper-threads. The core that the kernel likes best (the first) is taken last, for it serves interrupts.

use hwloc2::{ObjectType, Topology, TopologyObject};
use std::collections::BTreeSet;
use zsync_pipelines::spec::Workers;

/// A CPU that a worker may have to itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Core {
    /// NUMA node.
    pub node: u32,
    /// Which last-level cache.
    pub cache: u32,
    /// The CPU's number: the first hyper-thread of its physical core.
    pub cpu: u32,
}

/// The physical cores that this process may use, as hwloc sees them; empty when hwloc sees none.
pub fn cores() -> Vec<Core> {
    let Some(topology) = Topology::new() else { return Vec::new() };
    let allowed: BTreeSet<u32> = allowed_cpus();
    let Ok(objects) = topology.objects_with_type(&ObjectType::Core) else { return Vec::new() };
    objects
        .iter()
        .filter_map(|core| {
            let cpu = first_cpu(core, &allowed)?;
            let cache = ancestor(core, &[ObjectType::L3Cache, ObjectType::Package]).unwrap_or(0);
            let node = core.nodeset().and_then(|set| set.into_iter().next()).unwrap_or(0);
            Some(Core { node, cache, cpu })
        })
        .collect()
}

fn first_cpu(core: &TopologyObject, allowed: &BTreeSet<u32>) -> Option<u32> {
    core.cpuset()?.into_iter().find(|cpu| allowed.is_empty() || allowed.contains(cpu))
}

fn ancestor(core: &TopologyObject, kinds: &[ObjectType]) -> Option<u32> {
    let mut object = core.parent();
    while let Some(current) = object {
        if kinds.contains(&current.object_type()) {
            return Some(current.logical_index());
        }
        object = current.parent();
    }
    None
}

/// The affinity of this process.
fn allowed_cpus() -> BTreeSet<u32> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .map(|cpu| cpu as u32)
            .collect(),
        Err(_) => BTreeSet::new(),
    }
}

/// The NUMA node of a netdev's device, if sysfs shows that very netdev and the device has one.
pub fn node_of(netdev: &str, ifindex: u32) -> Option<u32> {
    let read = |file: &str| std::fs::read_to_string(format!("/sys/class/net/{netdev}/{file}")).ok();
    // Sysfs shows the network namespace of whoever mounted it, which may be another.
    let shown: u32 = read("ifindex")?.trim().parse().ok()?;
    if shown != ifindex {
        return None;
    }
    read("device/numa_node")?.trim().parse().ok()
}

/// Where each worker runs; `queues` is the most queues that any port has, `node` the ports' NUMA node if they have one.
pub fn place(workers: &Workers, queues: u32, node: Option<u32>, cores: &[Core]) -> Vec<Option<u32>> {
    let best = preferred(node, cores);
    let count = match workers {
        Workers::Cores(cores) => return cores.iter().map(|cpu| Some(*cpu)).collect(),
        Workers::Count(count) => *count as usize,
        // More workers than queues would have nothing to receive; all cores but one, so that the kernel has one.
        Workers::Auto => (queues as usize).min(best.len().saturating_sub(1).max(1)),
    };
    (0..count).map(|worker| best.get(worker).copied()).collect()
}

/// The cores in the order in which workers get them: the ports' node first, there the cache with the most cores.
fn preferred(node: Option<u32>, cores: &[Core]) -> Vec<u32> {
    let sharing = |core: &Core| {
        cores.iter().filter(|other| (other.node, other.cache) == (core.node, core.cache)).count()
    };
    let first = cores.iter().map(|core| core.cpu).min();
    let mut order: Vec<&Core> = cores.iter().collect();
    order.sort_by_key(|core| {
        (
            node.is_some_and(|node| node != core.node),
            Some(core.cpu) == first,
            std::cmp::Reverse(sharing(core)),
            core.node,
            core.cache,
            core.cpu,
        )
    });
    order.into_iter().map(|core| core.cpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Vec<Core> {
        let core = |node, cache, cpu| Core { node, cache, cpu };
        vec![core(0, 0, 0), core(0, 0, 1), core(0, 0, 2), core(1, 1, 8), core(1, 1, 9)]
    }

    #[test]
    fn workers_go_where_the_ports_are_and_the_first_core_comes_last() {
        assert_eq!(place(&Workers::Auto, 2, Some(1), &machine()), [Some(8), Some(9)]);
        assert_eq!(place(&Workers::Auto, 2, None, &machine()), [Some(1), Some(2)]);
        assert_eq!(place(&Workers::Auto, 64, Some(0), &machine()).len(), 4);
        assert_eq!(place(&Workers::Count(1), 4, Some(0), &machine()), [Some(1)]);
        assert_eq!(place(&Workers::Cores(vec![5, 3]), 1, None, &machine()), [Some(5), Some(3)]);
    }

    #[test]
    fn more_workers_than_cores_are_left_to_the_kernel() {
        let one = [Core { node: 0, cache: 0, cpu: 0 }];
        assert_eq!(place(&Workers::Count(3), 1, None, &one), [Some(0), None, None]);
        assert_eq!(place(&Workers::Auto, 4, None, &one), [Some(0)]);
        assert_eq!(place(&Workers::Auto, 4, None, &[]), [None]);
    }

    #[test]
    fn this_machine_has_a_core() {
        assert!(!cores().is_empty());
    }
}
