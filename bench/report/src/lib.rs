//! Results of benchmarks: as data, as a table for a terminal, as a page for a browser.
//!
//! ```text
//!   outcome, machine, curve  what was measured, on what; curves that it may carry
//!   figures, limit           what came of contestants in rounds, and of what was to be reached
//!   spread                   minimum, median, maximum of samples
//!   json, folder             a line of JSON per outcome; all that lie in a folder
//!   figure                   numbers as people read them
//!   table                    100 columns for a terminal
//!   plot                     SVG: latency, loss, ratios
//!   page                     one HTML file that needs nothing else
//!   progress, watch          what a long run says meanwhile, and who may stop it
//! ```
//!
//! Refuses: to average anything away, and to hide what is not valid: it is shown, struck out, with the reason.
//! Keeps true: a ratio above 1 means that zsync is better, whatever the unit. This crate looks at no clock and no machine:
//! the caller says what it saw.
#![forbid(unsafe_code)]

pub mod curve;
pub mod figure;
pub mod figures;
pub mod folder;
pub mod json;
pub mod limit;
pub mod machine;
pub mod outcome;
pub mod page;
pub mod plot;
pub mod progress;
pub mod spread;
pub mod table;
pub mod watch;
