//! Plots as SVG: latency by percentile, loss by rate, ratios around 1.
//!
//! Keeps true: every text in a plot is escaped; colours come from the page's style (see `page.css`) and so follow its light or
//! dark; a series is told by the shape of its marks besides, for those who do not see the colours. Each plot has a title and
//! a description for those who do not see it at all.

mod canvas;
pub mod latency;
pub mod loss;
pub mod ratio;

/// How wide a plot is drawn. Text does not shrink with the window: a page holds both and shows the one that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 830 pixels.
    Wide,
    /// 330 pixels, for telephones.
    Narrow,
}

impl Size {
    /// In pixels.
    pub const fn width(self) -> f64 {
        match self {
            Self::Wide => 830.0,
            Self::Narrow => 330.0,
        }
    }

    /// The class that the page's style shows or hides it by.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }
}
