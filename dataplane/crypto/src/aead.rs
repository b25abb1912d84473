//! Authenticated encryption of batches of packets (RFC 8439, NIST SP 800-38D), in place.
//!
//! Owns: the jobs of a batch, and the choice of who does them. Refuses: texts that are longer than an algorithm allows, and
//! data too short to have a tag: such a job fails and its data is wiped. Keeps true: after [`Aead::open`] the data of a job is the text if its tag
//! was right, and zeros if not; nobody is ever shown what was not authenticated.

mod chacha;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod gcm;
mod key;
#[allow(unsafe_code)]
mod one;
pub mod queue;

pub use key::{Algorithm, Key};

/// Bytes of a tag, for all algorithms.
pub const TAG_LEN: usize = 16;
/// Bytes of a nonce, for all algorithms.
pub const NONCE_LEN: usize = 12;
/// Jobs that are done together at most: larger batches are taken apart. The numbers of jobs within such a part fit in a byte.
pub(crate) const PART: usize = 64;

/// A packet to seal or to open.
#[derive(Debug)]
pub struct Job<'a> {
    pub(crate) key: &'a Key,
    pub(crate) nonce: [u8; NONCE_LEN],
    pub(crate) aad: &'a [u8],
    pub(crate) data: &'a mut [u8],
    pub(crate) done: bool,
}

impl<'a> Job<'a> {
    /// `data` is the text, and the [`TAG_LEN`] bytes of its tag behind it: to be written, or to be checked. `aad` is
    /// authenticated only. A nonce is used once with a key: the caller sees to that.
    #[inline]
    pub fn new(key: &'a Key, nonce: [u8; NONCE_LEN], aad: &'a [u8], data: &'a mut [u8]) -> Self {
        Self { key, nonce, aad, data, done: false }
    }

    /// Whether it was done: sealed, or opened and authentic. If not, its data are zeros.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Its data: text and tag.
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.data
    }

    /// Bytes of its text; `None`: there is no room for a tag, or the algorithm takes no text of this length.
    #[inline]
    pub(crate) fn text_len(&self) -> Option<usize> {
        let len = self.data.len().checked_sub(TAG_LEN)?;
        (len as u64 <= self.key.algorithm().longest_text()).then_some(len)
    }

    /// Writes its tag, or compares it, and ends it.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    #[inline]
    pub(crate) fn tag<const OPEN: bool>(&mut self, tag: u128) {
        let Some(own) = self.data.last_chunk_mut::<TAG_LEN>() else { return };
        if OPEN {
            // The whole difference, and only then whether there is one.
            let right = u128::from_le_bytes(*own) ^ tag == 0;
            self.end(right);
        } else {
            *own = tag.to_le_bytes();
            self.done = true;
        }
    }

    /// Ends it: `done`, or with its data wiped.
    #[inline]
    pub(crate) fn end(&mut self, done: bool) {
        self.done = done;
        if !done {
            self.data.fill(0);
        }
    }
}

/// What is done with the jobs of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Text to ciphertext and tag.
    Seal,
    /// Back.
    Open,
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// One packet after the other, by `ring`.
    Ring,
    /// Many packets at once, on AVX-512.
    Avx512,
    /// ChaCha20-Poly1305 by eight blocks at a time, of any packets, in AVX2.
    Avx2,
    /// ChaCha20-Poly1305 by four blocks at a time, of any packets, in NEON. Only where it is asked for: it was tested
    /// under emulation, and never measured.
    Neon,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ring, Self::Avx512, Self::Avx2, Self::Neon];

    /// Whether this processor has what it needs.
    pub fn is_available(self) -> bool {
        match self {
            Self::Ring => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => chacha::has_avx512() && gcm::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 => false,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => chacha::avx2::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 => false,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => chacha::neon::is_available(),
            #[cfg(not(target_arch = "aarch64"))]
            Self::Neon => false,
        }
    }

    /// Whether it does `algorithm` itself; what it does not is left to [`Self::Ring`].
    pub fn does(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Ring => true,
            Self::Avx512 => true,
            Self::Avx2 | Self::Neon => algorithm == Algorithm::ChaCha20Poly1305,
        }
    }
}

/// Does batches.
#[derive(Clone, Debug)]
pub struct Aead {
    forced: Option<Backend>,
}

impl Aead {
    /// With the best of what this processor has, for each batch.
    pub fn new() -> Self {
        Self { forced: None }
    }

    /// With this backend for all batches: for tests and measurements. `None`: the processor does not have it.
    pub fn with(backend: Backend) -> Option<Self> {
        backend.is_available().then_some(Self { forced: Some(backend) })
    }

    /// Seals all jobs.
    pub fn seal(&self, jobs: &mut [Job<'_>]) {
        self.run(jobs, Way::Seal);
    }

    /// Opens all jobs; [`Job::is_done`] says which of them were authentic.
    pub fn open(&self, jobs: &mut [Job<'_>]) {
        self.run(jobs, Way::Open);
    }

    #[inline]
    fn run(&self, jobs: &mut [Job<'_>], way: Way) {
        let jobs = chacha::run_plain(self.forced, jobs, way);
        if !jobs.is_empty() {
            self.run_mixed(jobs, way);
        }
    }

    #[inline(never)]
    fn run_mixed(&self, jobs: &mut [Job<'_>], way: Way) {
        for part in jobs.chunks_mut(PART) {
            // Most often all are of one algorithm, and the others are not looked for.
            let mut left = part.len();
            let first = part[0].key.algorithm();
            let others = Algorithm::ALL.into_iter().filter(|algorithm| *algorithm != first);
            for algorithm in std::iter::once(first).chain(others) {
                if left == 0 {
                    break;
                }
                let mut picks = [0; PART];
                let mut count = 0;
                for (n, job) in part.iter_mut().enumerate() {
                    if job.key.algorithm() != algorithm {
                        continue;
                    }
                    left -= 1;
                    if job.text_len().is_none() {
                        job.end(false);
                        continue;
                    }
                    // At most PART.
                    picks[count] = n as u8;
                    count += 1;
                }
                if count > 0 {
                    self.run_picks(part, &picks[..count], algorithm, way);
                }
            }
        }
    }

    /// Does the jobs `picks` of `jobs`, which are of one algorithm and have a length that it takes.
    fn run_picks(&self, jobs: &mut [Job<'_>], picks: &[u8], algorithm: Algorithm, way: Way) {
        let mut left = [0; PART];
        let left = match algorithm {
            Algorithm::ChaCha20Poly1305 => {
                let count = chacha::run(self.forced, jobs, picks, way, &mut left);
                &left[..count]
            }
            #[cfg(target_arch = "x86_64")]
            _ if matches!(self.forced, None | Some(Backend::Avx512)) => {
                gcm::run(jobs, picks, algorithm, way);
                &[]
            }
            Algorithm::Aes128Gcm | Algorithm::Aes256Gcm => picks,
        };
        for &pick in left {
            one::run(&mut jobs[usize::from(pick)], way);
        }
    }
}

impl Default for Aead {
    fn default() -> Self {
        Self::new()
    }
}
