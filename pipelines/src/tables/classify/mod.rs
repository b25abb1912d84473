//! Which of many ordered rules is the first that a packet meets.
//!
//! [`Classifier::compile`] makes trees of ordered [`Rule`]s; [`Classifier::classify`] asks them for a whole burst. The cost
//! of an answer grows with the depth of the trees, not with the rules.
//!
//! ```text
//!   Rule ──expand──▶ Record … Record      a rule with lists becomes a record for each combination
//!                       │ grow
//!                       ▼
//!   key ──▶ [tree 0] [tree 1] …           a tree cuts by a few bits of one word of the key at each node;
//!              │        │                 rules that say nothing of these bits wait for the next tree
//!              ▼        ▼
//!           a few records each, compared in full; the lowest number wins
//! ```
//!
//! The parts: [`rule`] what a rule may ask for; [`key`] what is known of a packet, as words; [`record`] a rule as words;
//! [`cut`] which bits to cut by; [`grow`] the trees; [`forest`] the search; [`prefixes`] sets of prefixes, which are looked
//! up once a packet and become bits of its key.
//!
//! Keeps true: the memory is bounded by a budget, whatever the rules are. Rules that no cut tells apart end up together in
//! a list, which is compared one by one: only then is the cost linear, in the rules that overlap there.

pub mod cut;
pub mod error;
pub mod forest;
pub mod grow;
pub mod key;
pub mod prefixes;
pub mod record;
pub mod rule;
pub mod words;

mod classifier;
mod expand;

pub use classifier::{Classifier, Footprint};
pub use error::ClassifyError;
pub use key::{Keys, State, States, Subject};
pub use prefixes::PrefixSet;
pub use rule::{Addresses, Masked, Ports, Rule, Vlan};
