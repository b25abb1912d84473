use super::*;

fn identity(seed: u8) -> Identity {
    Identity::new(Secret::new([seed; 32]))
}

#[test]
fn both_sides_get_the_same_keys() {
    let (us, them) = (identity(1), identity(2));
    let psk = Secret::new([9; 32]);
    let (mut begun, initiation) =
        us.begin(&them.public(), &psk, 0x1234, &stamp(5_000_000_007), Secret::new([3; 32])).unwrap();
    let received = them.receive(&initiation, Secret::new([4; 32])).unwrap();
    assert_eq!((received.peer, received.index, received.stamp), (us.public(), 0x1234, stamp(5_000_000_007)));
    let (theirs, response) = received.respond(&psk, 0x5678).unwrap();
    assert_eq!((word(&response, 4), word(&response, 8)), (0x5678, 0x1234));
    let mut spoiled = response;
    spoiled[20] ^= 1;
    assert!(begun.finish(&spoiled).is_err());
    let ours = begun.finish(&response).unwrap();
    assert!(
        ours.sending == theirs.receiving
            && ours.receiving == theirs.sending
            && ours.sending != ours.receiving
    );
}

#[test]
fn wrong_keys_and_changed_bytes_do_not_authenticate() {
    let (us, them, other) = (identity(1), identity(2), identity(3));
    let (psk, entropy) = (Secret::new([0; 32]), || Secret::new([3; 32]));
    let (mut begun, initiation) = us.begin(&them.public(), &psk, 1, &stamp(0), entropy()).unwrap();
    assert!(other.receive(&initiation, entropy()).is_err(), "made for another");
    for at in 8..INITIATION_LEN - MACS_LEN {
        let mut spoiled = initiation;
        spoiled[at] ^= 0x40;
        assert!(them.receive(&spoiled, entropy()).is_err(), "byte {at}");
    }
    let received = them.receive(&initiation, Secret::new([4; 32])).unwrap();
    let (_, response) = received.respond(&Secret::new([1; 32]), 2).unwrap();
    assert_eq!(begun.finish(&response).unwrap_err(), HandshakeError::NotAuthentic, "another preshared key");
}

#[test]
fn points_of_small_order_lead_nowhere() {
    let zero = PublicKey([0; 32]);
    let psk = Secret::new([0; 32]);
    assert!(identity(1).begin(&zero, &psk, 1, &stamp(0), Secret::new([3; 32])).is_err());
    let mut one = [0; 32];
    one[0] = 1;
    assert!(identity(1).begin(&PublicKey(one), &psk, 1, &stamp(0), Secret::new([3; 32])).is_err());
}

#[test]
fn later_is_greater() {
    let times = [0, 1, 999_999_999, 1_000_000_000, 1_700_000_000_123_456_789];
    assert!(times.windows(2).all(|pair| stamp(pair[0]) < stamp(pair[1])));
}
