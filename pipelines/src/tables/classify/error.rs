//! What rules cannot be compiled.

/// Why there is no classifier for some rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassifyError {
    /// More sets and directions than there are bits for them.
    #[error(
        "the rules ask for {sets} sets of prefixes, a set for source and destination counting twice: at most {limit} fit; \
         put prefixes that are used together in one set"
    )]
    TooManySets {
        /// How many they ask for.
        sets: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A rule's lists have too many combinations.
    #[error(
        "the lists of rule {rule} have {combinations} combinations: at most {limit} fit; use a set instead of a list of \
         prefixes, or ranges instead of lists of ports"
    )]
    TooManyCombinations {
        /// The rule's place, from 0.
        rule: usize,
        /// How many it has.
        combinations: usize,
        /// How many it may have.
        limit: usize,
    },
    /// All rules together need too much memory.
    #[error(
        "the rules and the combinations of their lists need more memory than {limit} records of one family: use sets instead \
         of lists of prefixes, or fewer rules"
    )]
    TooManyRecords {
        /// How many fit.
        limit: usize,
    },
    /// A rule asks for a set that was not given.
    #[error("rule {rule} asks for set {set}, which is not there")]
    NoSuchSet {
        /// The rule's place, from 0.
        rule: usize,
        /// The set's number.
        set: usize,
    },
}
