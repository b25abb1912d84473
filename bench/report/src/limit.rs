//! What zsync is to reach, and whether it does.
//!
//! Keeps true: a limit is held by the median of a run's rounds, each of which compares samples that were taken one after the
//! other, so that a machine that is slow for a while is slow for both; what cannot be judged (a peer that is missing) is not held and not broken.

use std::fmt;

/// What is asked of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// This, or more.
    AtLeast(f64),
    /// This, or less.
    AtMost(f64),
}

/// A figure beside what is asked of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// What the figure is.
    pub what: String,
    /// The title of the row that it is of, or that was the nearest to breaking it.
    pub of: String,
    /// The figure, or why there is none.
    pub figure: Result<f64, String>,
    /// What is asked of it.
    pub asked: Asked,
}

impl Limit {
    /// The figure, what is asked, and whether it is held.
    pub fn verdict(&self) -> String {
        let asked = match self.asked {
            Asked::AtLeast(asked) => format!("at least {}", short(asked)),
            Asked::AtMost(asked) => format!("at most {}", short(asked)),
        };
        match (&self.figure, self.is_held()) {
            (Ok(figure), Some(true)) => format!("{}, {asked}: held", short(*figure)),
            (Ok(figure), _) => format!("{}, {asked}: NOT held", short(*figure)),
            (Err(why), _) => format!("{asked}: not known, {why}"),
        }
    }

    /// Whether it is held; `None`: there is no figure.
    pub fn is_held(&self) -> Option<bool> {
        let figure = self.figure.as_ref().ok().filter(|figure| figure.is_finite())?;
        Some(match self.asked {
            Asked::AtLeast(asked) => *figure >= asked,
            Asked::AtMost(asked) => *figure <= asked,
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.of, self.what, self.verdict())
    }
}

/// Two places behind the point, and none of a large number.
fn short(figure: f64) -> String {
    if figure.abs() < 1000.0 { format!("{figure:.2}") } else { format!("{figure:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_whether_it_is_held() {
        let limit = |figure, asked| Limit { what: "it".to_owned(), of: "seal".to_owned(), figure, asked };
        let text = |figure, asked| limit(figure, asked).to_string();
        assert_eq!(text(Ok(5.5), Asked::AtLeast(5.5)), "seal, it: 5.50, at least 5.50: held");
        assert_eq!(text(Ok(1.2), Asked::AtMost(1.1)), "seal, it: 1.20, at most 1.10: NOT held");
        assert_eq!(text(Ok(3e5), Asked::AtLeast(25e4)), "seal, it: 300000, at least 250000: held");
        assert_eq!(limit(Ok(f64::NAN), Asked::AtMost(1.1)).is_held(), None);
        let unknown = limit(Err("no ipsec-mb".to_owned()), Asked::AtMost(1.0));
        assert_eq!(unknown.is_held(), None);
        assert_eq!(unknown.to_string(), "seal, it: at most 1.00: not known, no ipsec-mb");
    }
}
