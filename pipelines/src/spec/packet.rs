//! What the packets of a port come and go by, and what a port without AF_XDP cannot have.
//!
//! Owns: the word for it. Refuses, with the key at fault: what only XDP does on a port that packet sockets serve, or may serve.

use super::datum::Fields;
use super::findings::Findings;
use super::keys::{Key, Reach};
use super::kind::Kind;
use super::model::Device;
use super::tun::given;

pub(crate) const DEVICE: Key = Key {
    name: "device",
    kind: Kind::Word(Device::WORDS),
    default: Some("\"xdp\""),
    reach: Reach::Sockets,
    about: "What the port is: a network device whose packets are taken from the kernel, by XDP (\"xdp\"), by packet sockets \
            (\"uring-packet\"), or by the better of the two that works (\"auto\"); a TUN device that is made for it, by which the \
            host's own packets come and go; a TAP device, which has frames; or a UDP socket.",
};

/// Keys that say something of XDP and its sockets.
const FOREIGN: [&str; 5] = ["xdp", "mode", "ring-size", "busy-poll", "replace"];

/// The word of a port's section.
pub(crate) fn device(name: &str, fields: &Fields, out: &mut Findings<'_>) -> Device {
    let device = fields.word("device");
    let (foreign, help): (&'static [&'static str], _) = match device {
        Device::UringPacket => (&FOREIGN, "leave it out, or device = \"xdp\""),
        // The other keys count if XDP serves the port. Programs that may not run are none that one can rely on.
        Device::Auto => (&["xdp"], "device = \"xdp\" runs them, or the port does not open"),
        Device::Xdp | Device::Tun | Device::Tap | Device::Udp => return device,
    };
    for (key, given) in given(fields, foreign) {
        let message = match device {
            Device::Auto => {
                format!("port \"{name}\" may have to do without XDP, and would then not run these programs")
            }
            _ => format!("port \"{name}\" has packet sockets and no XDP, so it has no `{key}`"),
        };
        out.error(&given.span, message).help(help);
    }
    device
}
