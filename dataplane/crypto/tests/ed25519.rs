use ed25519_dalek::{Signer, SigningKey};
use zsync_crypto::ed25519::{Backend, Check, Verifier};
#[test]
fn quick() {
    for n in 0..20u8 {
    let signed: Vec<_> = (0..24u8).map(|i| { let k = SigningKey::from_bytes(&[i+n*3; 32]); let m = vec![i; 11 * i as usize + n as usize]; let s = k.sign(&m).to_bytes(); (k.verifying_key().to_bytes(), s, m) }).collect();
    let checks: Vec<_> = signed.iter().map(|(k, s, m)| Check { key: k, signature: s, message: m }).collect();
    let mut verdicts = vec![false; 24];
    Verifier::with(Backend::Ifma).unwrap().verify(&checks, &mut verdicts);
    assert!(verdicts.iter().all(|v| *v), "{verdicts:?}");
    }
}
