//! What figures were measured on: facts that they are worthless without.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A machine and the state it was in. The caller fills it in; nothing here looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel, as `uname -r` has it.
    #[serde(default)]
    pub kernel: String,
    /// The processor, as `/proc/cpuinfo` names it.
    #[serde(default, rename = "cpu")]
    pub processor: String,
    /// Cores that the run could use.
    #[serde(default)]
    pub cores: usize,
    /// Runnable threads over the last minute when the run began (`/proc/loadavg`).
    #[serde(default)]
    pub load: f64,
    /// Ticks of the time stamp counter per nanosecond.
    #[serde(default)]
    pub ghz: Option<f64>,
    /// Driver of the devices: "veth", "mlx5", "null".
    #[serde(default)]
    pub driver: Option<String>,
    /// How the devices were used: "AF_XDP copy", "AF_XDP zero copy", "in memory".
    #[serde(default)]
    pub mode: Option<String>,
}

impl Machine {
    /// Driver and mode in a phrase, as "veth, AF_XDP copy"; `None` when neither is known.
    pub fn devices(&self) -> Option<String> {
        let known: Vec<&str> = [&self.driver, &self.mode].into_iter().flatten().map(String::as_str).collect();
        (!known.is_empty()).then(|| known.join(", "))
    }

    /// The same, measured with these devices.
    pub fn with_devices(&self, driver: &str, mode: &str) -> Self {
        Self { driver: Some(driver.to_owned()), mode: Some(mode.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, processor, cores, load, ghz, .. } = self;
        write!(f, "{processor}, {cores} {}, Linux {kernel}", if *cores == 1 { "core" } else { "cores" })?;
        if let Some(ghz) = ghz {
            write!(f, ", TSC {ghz:.2} GHz")?;
        }
        write!(f, ", load {load:.1}")?;
        self.devices().map_or(Ok(()), |devices| write!(f, "; {devices}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_reads_as_a_phrase() {
        let mut machine = Machine {
            kernel: "6.18".to_owned(),
            processor: "AMD EPYC".to_owned(),
            cores: 2,
            load: 2.44,
            ghz: Some(2.6),
            driver: Some("veth".to_owned()),
            mode: Some("AF_XDP copy".to_owned()),
        };
        let phrase = "AMD EPYC, 2 cores, Linux 6.18, TSC 2.60 GHz, load 2.4; veth, AF_XDP copy";
        assert_eq!(machine.to_string(), phrase);
        (machine.driver, machine.mode, machine.ghz, machine.cores) = (None, None, None, 1);
        assert_eq!(machine.to_string(), "AMD EPYC, 1 core, Linux 6.18, load 2.4");
    }
}
