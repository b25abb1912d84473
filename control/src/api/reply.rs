//! What a request gets back.

use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::error::ApiError;

/// What a request gets back: `{"id":1,"ok":…}` or `{"id":1,"error":…}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Of the request; none when that could not be read.
    pub id: Option<u64>,
    /// The answer, or why there is none.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// `ok` or `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The answer.
    Ok(Answer),
    /// Why there is none.
    Error(ApiError),
}

impl Reply {
    /// The line that says this, with its line break.
    #[must_use]
    pub fn line(id: Option<u64>, result: Result<Answer, ApiError>) -> Vec<u8> {
        let outcome = result.map_or_else(Outcome::Error, Outcome::Ok);
        json_line(&Self { id, outcome })
    }

    /// The answer, or why there is none.
    ///
    /// # Errors
    /// The daemon's.
    pub fn into_result(self) -> Result<Answer, ApiError> {
        match self.outcome {
            Outcome::Ok(answer) => Ok(answer),
            Outcome::Error(error) => Err(error),
        }
    }
}

/// A value and a line break. JSON escapes line breaks within texts, so the one at the end is the only one.
pub(super) fn json_line(value: &impl Serialize) -> Vec<u8> {
    // Fails for maps with keys that are no text and for types that refuse; there are none here.
    let mut line = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Code;

    #[test]
    fn replies_are_of_the_documented_form() {
        let line = Reply::line(Some(1), Ok(Answer::Ports(Vec::new())));
        assert_eq!(line, b"{\"id\":1,\"ok\":{\"ports\":[]}}\n");
        let error = ApiError::new(Code::UnknownMethod, "no").remedy("yes");
        let line = Reply::line(None, Err(error.clone()));
        let text = r#"{"id":null,"error":{"code":"unknown-method","message":"no","remedy":"yes"}}"#;
        assert_eq!(String::from_utf8(line.clone()).unwrap(), format!("{text}\n"));
        let reply: Reply = serde_json::from_slice(&line).unwrap();
        assert_eq!(reply.into_result(), Err(error));
    }
}
