//! What a benchmark measured beside others, and where: as it is printed, and as outcomes.

use crate::machine;
use crate::outcome::COMMIT;
use std::fmt;
use zsync_report::figures::Figures;
use zsync_report::machine::Machine;
use zsync_report::outcome::Outcome;

/// See the module.
#[derive(Clone, Debug)]
pub struct Measured {
    machine: Machine,
    /// Driver and mode of the devices that packets went by.
    devices: (&'static str, &'static str),
    figures: Vec<Figures>,
}

impl Measured {
    /// Looks at the machine, and measures.
    ///
    /// # Errors
    /// Those of `measure`.
    pub fn of<E>(
        devices: (&'static str, &'static str),
        measure: impl FnOnce() -> Result<Vec<Figures>, E>,
    ) -> Result<Self, E> {
        let machine = machine::look();
        Ok(Self { machine, devices, figures: measure()? })
    }

    /// As `--json` prints them, a line each; `benchmark` names them, `command` measures them again.
    pub fn outcomes(&self, benchmark: &str, command: &str) -> Vec<Outcome> {
        let machine = self.machine.with_devices(self.devices.0, self.devices.1);
        let outcomes = |figures: &Figures| figures.outcomes(benchmark, command, &machine, COMMIT);
        self.figures.iter().flat_map(outcomes).collect()
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n\n", self.machine)?;
        for (number, figures) in self.figures.iter().enumerate() {
            write!(f, "{}{figures}", if number > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}
