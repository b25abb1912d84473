//! Lines from a stream, each of bounded length and in bounded time.

use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};
use tokio::time::timeout;

/// Why there is no line.
#[derive(Debug)]
pub(super) enum LineError {
    /// The stream failed, ended within a line, or was quiet for too long.
    Gone,
    /// A line was begun and not ended in time.
    Slow,
    /// A line is longer than allowed.
    TooLong,
}

/// The next line without its line break; none at the end of the stream. Waits `idle` for its first byte and `rest` for the
/// others. After an error the stream is of no more use, nor after this future was dropped.
pub(super) async fn next_line(
    stream: &mut (impl AsyncBufRead + Unpin),
    (idle, rest, longest): (Duration, Duration, usize),
) -> Result<Option<Vec<u8>>, LineError> {
    let first = timeout(idle, stream.fill_buf()).await.map_err(|_| LineError::Gone)?;
    if first.map_err(|_| LineError::Gone)?.is_empty() {
        return Ok(None);
    }
    let line = timeout(rest, rest_of_line(stream, longest)).await.map_err(|_| LineError::Slow)?;
    line.map(Some)
}

async fn rest_of_line(
    stream: &mut (impl AsyncBufRead + Unpin),
    longest: usize,
) -> Result<Vec<u8>, LineError> {
    let mut line = Vec::new();
    loop {
        let bytes = stream.fill_buf().await.map_err(|_| LineError::Gone)?;
        if bytes.is_empty() {
            return Err(LineError::Gone);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (part, used) = match end {
            Some(end) => (&bytes[..end], end + 1),
            None => (bytes, bytes.len()),
        };
        if line.len() + part.len() > longest {
            return Err(LineError::TooLong);
        }
        line.extend_from_slice(part);
        stream.consume(used);
        if end.is_some() {
            return Ok(line);
        }
    }
}
