//! Ed25519: signatures verified a second, by one core, in batches of each size.
//!
//! Messages are of 200 bytes, each under a key of its own. Keeps true: nobody is timed who does not take every signature, or takes one
//! over other bytes; keys are read ahead where a library can, and its row says so where it cannot.

use crate::Settings;
use crate::limits;
use crate::packets::Seeded;
use anyhow::{Context, Result, ensure};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey, verify_batch};
use std::ops::Range;
use std::time::{Duration, Instant};
use zsync_crypto::ed25519;
use zsync_report::figures::{Figures, OURS, Row};
use zsync_report::limit::{Asked, Limit};
use zsync_report::outcome::{Direction, Series};
use zsync_report::watch::Watch;

/// Signatures at once.
const BATCHES: [usize; 4] = [1, 8, 64, 1024];
/// Signatures that there are.
const MOST: usize = 1024;
/// Bytes of a message.
const MESSAGE: usize = 200;
/// Signatures of a sweep, at least, so that looking at the clock is nothing.
const SWEEP: usize = 64;
/// Sweeps of a sample, at least.
const RUNS: usize = 2;

/// A message, its signature, and whose it is.
#[derive(Clone)]
struct Signed {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

impl Signed {
    /// As zsync is asked.
    fn check(&self) -> ed25519::Check<'_> {
        ed25519::Check { key: &self.key, signature: &self.signature, message: &self.message }
    }
}

/// Who verifies: made of what is signed, so that it can read keys ahead.
trait Verifier {
    /// Whether all of these are right.
    fn verify(&self, which: Range<usize>) -> bool;
}

/// Makes one; `None`: a key cannot be read.
type Make = fn(&[Signed]) -> Option<Box<dyn Verifier>>;

/// All of them. Ours comes first when there is one, `ring` before all others.
const VERIFIERS: [(&str, Make); 6] = [
    (OURS, |signed| Some(boxed(Ours::new(signed)))),
    ("ring, keys unread", |signed| Some(Box::new(Ring(signed.to_vec())))),
    ("aws-lc-rs", |signed| AwsLc::new(signed).map(boxed)),
    ("dalek, keys unread", |signed| Some(Box::new(Unread(signed.to_vec())))),
    ("dalek", |signed| Dalek::new(signed).map(|dalek| boxed(Strict(dalek)))),
    ("dalek, batch", |signed| Dalek::new(signed).map(|dalek| boxed(Batch(dalek)))),
];

fn boxed<V: Verifier + 'static>(verifier: V) -> Box<dyn Verifier> {
    Box::new(verifier)
}

/// It reads a key each time.
struct Ours {
    verifier: ed25519::Verifier,
    signed: Vec<Signed>,
}

impl Ours {
    fn new(signed: &[Signed]) -> Self {
        Self { verifier: ed25519::Verifier::new(), signed: signed.to_vec() }
    }
}

impl Verifier for Ours {
    fn verify(&self, which: Range<usize>) -> bool {
        let checks: Vec<_> = self.signed[which].iter().map(Signed::check).collect();
        let mut verdicts = vec![false; checks.len()];
        self.verifier.verify(&checks, &mut verdicts);
        verdicts.iter().all(|&is_right| is_right)
    }
}

/// It reads a key each time.
struct Ring(Vec<Signed>);

impl Verifier for Ring {
    fn verify(&self, which: Range<usize>) -> bool {
        use ring::signature::{ED25519, UnparsedPublicKey};
        self.0[which].iter().all(|Signed { key, message, signature }| {
            UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
        })
    }
}

struct AwsLc(Vec<(aws_lc_rs::signature::ParsedPublicKey, Signed)>);

impl AwsLc {
    fn new(signed: &[Signed]) -> Option<Self> {
        use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
        let read = |signed: &Signed| Some((ParsedPublicKey::new(&ED25519, signed.key).ok()?, signed.clone()));
        signed.iter().map(read).collect::<Option<_>>().map(Self)
    }
}

impl Verifier for AwsLc {
    fn verify(&self, which: Range<usize>) -> bool {
        let mut which = self.0[which].iter();
        which.all(|(key, signed)| key.verify_sig(&signed.message, &signed.signature).is_ok())
    }
}

/// `verify_strict`, with a key read each time.
struct Unread(Vec<Signed>);

impl Verifier for Unread {
    fn verify(&self, which: Range<usize>) -> bool {
        self.0[which].iter().all(|Signed { key, message, signature }| {
            VerifyingKey::from_bytes(key)
                .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
        })
    }
}

/// Keys, signatures and messages as dalek's batches take them.
struct Dalek {
    keys: Vec<VerifyingKey>,
    signatures: Vec<Signature>,
    signed: Vec<Signed>,
}

impl Dalek {
    fn new(signed: &[Signed]) -> Option<Self> {
        Some(Self {
            keys: signed.iter().map(|one| VerifyingKey::from_bytes(&one.key).ok()).collect::<Option<_>>()?,
            signatures: signed.iter().map(|one| Signature::from_bytes(&one.signature)).collect(),
            signed: signed.to_vec(),
        })
    }
}

/// `verify_strict`.
struct Strict(Dalek);

impl Verifier for Strict {
    fn verify(&self, mut which: Range<usize>) -> bool {
        let Dalek { keys, signatures, signed } = &self.0;
        which.all(|n| keys[n].verify_strict(&signed[n].message, &signatures[n]).is_ok())
    }
}

/// One verdict for all of a batch, and not a strict one.
struct Batch(Dalek);

impl Verifier for Batch {
    fn verify(&self, which: Range<usize>) -> bool {
        let Dalek { keys, signatures, signed } = &self.0;
        let messages: Vec<&[u8]> = signed[which.clone()].iter().map(|one| &one.message[..]).collect();
        verify_batch(&messages, &signatures[which.clone()], &keys[which]).is_ok()
    }
}

/// Signed messages, the same in every run.
fn sign(count: usize) -> Vec<Signed> {
    let mut seeded = Seeded(0xed);
    let mut one = |_| {
        let mut secret = [0; 32];
        secret.copy_from_slice(&seeded.bytes(32));
        let (key, message) = (SigningKey::from_bytes(&secret), seeded.bytes(MESSAGE));
        let signature = key.sign(&message).to_bytes();
        Signed { key: key.verifying_key().to_bytes(), message, signature }
    };
    (0..count).map(&mut one).collect()
}

/// One that has shown that it tells right from wrong.
fn proven(name: &str, make: Make, signed: &[Signed]) -> Result<Box<dyn Verifier>> {
    let verifier = make(signed).with_context(|| format!("{name}: does not read a key"))?;
    ensure!(verifier.verify(0..signed.len()), "{name}: does not take what is right");
    let mut spoiled = signed[..SWEEP.min(signed.len())].to_vec();
    let last = spoiled.len() - 1;
    spoiled[last].message[100] ^= 1;
    let other = make(&spoiled).with_context(|| format!("{name}: does not read a key"))?;
    ensure!(!other.verify(0..spoiled.len()), "{name}: takes a signature over other bytes");
    ensure!(other.verify(0..last), "{name}: does not take what is right beside what is not");
    Ok(verifier)
}

/// Signatures a second of the shortest sweep.
fn sample(verifier: &dyn Verifier, batch: usize, turn: Duration) -> Result<f64> {
    let (start, count) = (Instant::now(), batch.max(SWEEP));
    let (mut least, mut runs, mut from) = (Duration::MAX, 0, 0);
    while runs < RUNS || start.elapsed() < turn {
        let before = Instant::now();
        let mut is_right = true;
        for first in (from..from + count).step_by(batch) {
            is_right &= verifier.verify(first..first + batch);
        }
        least = least.min(before.elapsed());
        ensure!(is_right, "a right signature was not taken");
        from = (from + count) % MOST;
        runs += 1;
    }
    Ok(count as f64 / least.as_secs_f64())
}

/// Measures all of them.
///
/// # Errors
/// One that does not tell right from wrong.
pub fn run(settings: &Settings<'_>, watch: &dyn Watch) -> Result<Figures> {
    let about = "signatures of messages of 200 bytes, verified by one core";
    let mut figures = Figures::new("signatures/s", Direction::More, about);
    let signed = sign(MOST);
    let verifiers = VERIFIERS
        .iter()
        .map(|(name, make)| Ok((*name, proven(name, *make, &signed)?)))
        .collect::<Result<Vec<_>>>()?;
    let rows = BATCHES.map(|burst| Row {
        group: "Ed25519, verify".to_owned(),
        name: String::new(),
        burst,
        series: VERIFIERS.iter().map(|(name, _)| Series::new(*name, [])).collect(),
    });
    figures.rows = rows.to_vec();
    let turns = settings.rounds * BATCHES.len() * VERIFIERS.len();
    let turn = settings.time / turns.max(1) as u32;
    let (start, mut done) = (Instant::now(), 0);
    'rounds: for round in 0..settings.rounds {
        if round > 0 && start.elapsed() > settings.time {
            figures.notes.push(format!("{round} rounds of {}: the time was over", settings.rounds));
            break;
        }
        for (n, row) in figures.rows.iter_mut().enumerate() {
            watch.step(round * BATCHES.len() + n, settings.rounds * BATCHES.len(), &row.title());
            for (series, (_, verifier)) in row.series.iter_mut().zip(&verifiers) {
                if watch.is_cancelled() {
                    break 'rounds;
                }
                series.samples.push(sample(&**verifier, row.burst, turn)?);
            }
        }
        done = round + 1;
    }
    if watch.is_cancelled() {
        figures.notes.push(format!("interrupted after {done} of {} rounds", settings.rounds));
    }
    for series in figures.rows.iter_mut().flat_map(|row| &mut row.series) {
        series.samples.truncate(done);
    }
    let judged: Vec<[Limit; 2]> = figures.rows.iter().filter(|row| row.burst >= 8).map(judge).collect();
    let (ahead, stretch): (Vec<_>, Vec<_>) = judged.into_iter().map(Into::<(Limit, Limit)>::into).unzip();
    figures.limits = [ahead, stretch].concat();
    figures.notes.push(
        "a round's figure is that of its shortest sweep over 64 signatures or one batch, each under a key of its own; keys are read \
         ahead, unless it says otherwise; dalek's batch has one verdict for all, and is not strict; \
         dalek is as cargo builds it, and faster for one kind of processor (target-cpu=native)"
            .to_owned(),
    );
    Ok(figures)
}

/// Ours beside the best of the others, and beside what would be a stretch.
fn judge(row: &Row) -> [Limit; 2] {
    let ours = row.median(OURS).ok_or_else(|| "no rounds".to_owned());
    let others = row.series.iter().filter(|series| series.name != OURS);
    let best = others.filter_map(|series| row.median(&series.name)).fold(f64::NAN, f64::max);
    let limit = |what: &str, figure, asked| Limit {
        what: what.to_owned(),
        of: row.title(),
        figure,
        asked: Asked::AtLeast(asked),
    };
    [
        limit("times as fast as the best of the others", ours.clone().map(|ours| ours / best), 1.0),
        limit("signatures a second (a stretch)", ours, limits::VERIFIED),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use zsync_report::watch::Unwatched;

    /// Takes whatever it is shown.
    struct Blind;

    impl Verifier for Blind {
        fn verify(&self, _which: Range<usize>) -> bool {
            true
        }
    }

    #[test]
    fn everybody_tells_right_from_wrong_and_who_does_not_is_not_measured() {
        let signed = sign(100);
        for (name, make) in VERIFIERS {
            proven(name, make, &signed).unwrap();
        }
        let error = proven("blind", |_| Some(Box::new(Blind)), &signed).err().unwrap();
        assert_eq!(error.to_string(), "blind: takes a signature over other bytes");
    }

    #[test]
    fn a_short_run_has_a_figure_of_everybody_in_every_batch() {
        let folder = std::env::temp_dir();
        let settings = Settings { rounds: 1, time: Duration::ZERO, folder: &folder };
        let figures = run(&settings, &Unwatched).unwrap();
        assert_eq!(figures.rows.len(), BATCHES.len());
        let series = || figures.rows.iter().flat_map(|row| &row.series);
        assert!(series().all(|series| series.samples.len() == 1 && series.samples[0] > 100.0));
        assert_eq!(figures.limits.len(), 6);
    }

    #[test]
    fn ours_is_to_be_ahead_of_the_best_of_the_others() {
        let series = [(OURS, 90e3), ("ring", 27e3), ("dalek, batch", 82e3)];
        let series = series.map(|(name, rate)| Series::new(name, [rate; 3])).to_vec();
        let row = Row { group: "Ed25519, verify".to_owned(), name: String::new(), burst: 64, series };
        assert_eq!(judge(&row).map(|limit| limit.is_held()), [Some(true), Some(false)]);
        let without = Row { series: row.series[1..].to_vec(), ..row };
        assert_eq!(judge(&without).map(|limit| limit.is_held()), [None; 2]);
    }
}
