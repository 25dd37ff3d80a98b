//! Any bytes as what arrives on the control channel, on either side.

use outcrop_guest::protocol::{AgentMessage, Deframer, Frame, HostMessage};

/// Bytes of a frame before its payload.
const FRAME_HEADER: usize = 5;

pub fn run(bytes: &[u8]) {
    // The first byte says how the stream arrives; the frames must not depend on it.
    let Some((piece, stream)) = bytes.split_first() else { return };
    let whole = frames(&[stream]);
    let pieces: Vec<&[u8]> = stream.chunks(usize::from(*piece).max(1)).collect();
    assert_eq!(whole, frames(&pieces));
    whole.iter().for_each(decode);
}

fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
    let mut deframer = Deframer::default();
    let mut frames = Vec::new();
    for piece in pieces {
        deframer.push(piece);
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

/// What was understood is the same message when it is sent on.
fn decode(frame: &Frame) {
    let mut again = Vec::new();
    if let Ok(message) = HostMessage::decode(frame) {
        message.encode(&mut again).unwrap();
        assert_eq!(again.get(FRAME_HEADER..), Some(frame.payload.as_slice()));
    }
    again.clear();
    if let Ok(message) = AgentMessage::decode(frame) {
        message.encode(&mut again).unwrap();
        assert_eq!(again.get(FRAME_HEADER..), Some(frame.payload.as_slice()));
    }
}
