//! Stages: what each part of forwarding a packet costs by itself, in clocks and in instructions.
//!
//! ```text
//!   case        what is measured: the work, its burst, its table, warm or cold caches; its name
//!   work        the same thing set up and done, round by round; only `measured` counts
//!   costs       clocks of it, beside budgets that others have published; a table or JSON
//!   callgrind   instructions of it, under valgrind: the same number each time
//! ```
//!
//! Owns nothing of a machine: all of it is memory of this process, and comes from a seed.

pub mod callgrind;
pub mod case;
pub mod costs;
pub(crate) mod sample;
pub mod work;
