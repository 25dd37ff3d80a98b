use super::*;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn root() -> impl Strategy<Value = Root> {
    (bytes(), bytes(), bytes(), any::<bool>()).prop_map(
        |(source, file_system, options, read_only)| Root {
            source,
            file_system,
            options,
            read_only,
        },
    )
}

fn setup() -> impl Strategy<Value = Setup> {
    let temporary = (bytes(), bytes()).prop_map(|(path, options)| Temporary { path, options });
    let network = (any::<[u8; 4]>(), 0..=32u8, any::<Option<[u8; 4]>>())
        .prop_map(|(address, prefix_length, gateway)| Network { address, prefix_length, gateway });
    (
        prop::option::of(root()),
        prop::collection::vec(temporary, 0..4),
        prop::option::of(network),
        bytes(),
    )
        .prop_map(|(root, temporary, network, host_name)| Setup {
            root,
            temporary,
            network,
            host_name,
        })
}

fn run() -> impl Strategy<Value = Run> {
    let program = prop_oneof![
        bytes().prop_map(Program::Script),
        prop::collection::vec(bytes(), 0..5).prop_map(Program::Arguments),
    ];
    let input = prop_oneof![
        Just(Input::Null),
        Just(Input::Pipe),
        any::<(u16, u16)>().prop_map(|(rows, columns)| Input::Terminal { rows, columns }),
    ];
    let environment = prop::collection::vec((bytes(), bytes()), 0..5);
    (any::<(u32, u32, u32, u64)>(), program, bytes(), environment, input).prop_map(
        |((id, uid, gid, time_limit_milliseconds), program, directory, environment, input)| Run {
            id,
            program,
            directory,
            environment,
            uid,
            gid,
            time_limit_milliseconds,
            input,
        },
    )
}

fn host_message() -> impl Strategy<Value = HostMessage> {
    prop_oneof![
        (any::<(u32, i64)>(), bytes(), 0..1_000_000_000u32).prop_map(
            |((version, seconds), build_id, nanoseconds)| HostMessage::Hello(HostHello {
                version,
                build_id,
                seconds,
                nanoseconds
            })
        ),
        setup().prop_map(HostMessage::Setup),
        run().prop_map(HostMessage::Run),
        (any::<u32>(), bytes()).prop_map(|(id, data)| HostMessage::Input { id, data }),
        any::<(u32, u16, u16)>().prop_map(|(id, rows, columns)| HostMessage::Resize {
            id,
            rows,
            columns
        }),
        any::<(u32, u32)>().prop_map(|(id, signal)| HostMessage::Signal { id, signal }),
        Just(HostMessage::Unmount),
        Just(HostMessage::PowerOff),
        any::<u64>().prop_map(HostMessage::Ping),
    ]
}

fn program_use() -> impl Strategy<Value = ProgramUse> {
    (bytes(), any::<(u32, u64)>()).prop_map(|(name, (processes, hundredths))| ProgramUse {
        name,
        processes,
        hundredths,
    })
}

fn agent_message() -> impl Strategy<Value = AgentMessage> {
    let outcome = prop_oneof![
        any::<u32>().prop_map(Outcome::Exited),
        any::<u32>().prop_map(Outcome::Signalled),
        Just(Outcome::TimedOut),
        bytes().prop_map(Outcome::NotStarted),
    ];
    prop_oneof![
        (any::<(u32, u64)>(), bytes(), bytes()).prop_map(
            |((version, uptime_milliseconds), build_id, kernel)| AgentMessage::Hello(AgentHello {
                version,
                build_id,
                kernel,
                uptime_milliseconds
            })
        ),
        Just(AgentMessage::Done),
        (any::<(u32, bool)>(), bytes()).prop_map(|((id, error), data)| AgentMessage::Output {
            id,
            stream: if error { Stream::Error } else { Stream::Output },
            data
        }),
        (any::<(u32, u64)>(), outcome, prop::collection::vec(program_use(), 0..4)).prop_map(
            |((id, nanoseconds), outcome, programs)| AgentMessage::Exit {
                id,
                outcome,
                nanoseconds,
                programs
            }
        ),
        any::<(u32, u32)>().prop_map(|(id, count)| AgentMessage::InputTaken { id, count }),
        bytes().prop_map(AgentMessage::Error),
        any::<u64>().prop_map(AgentMessage::Pong),
    ]
}

fn frames(stream: &[u8], pieces: &[usize]) -> Vec<Frame> {
    let mut deframer = Deframer::default();
    let mut frames = Vec::new();
    let mut rest = stream;
    let mut sizes = pieces.iter().cycle();
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap_or(&1)).clamp(1, rest.len());
        let (piece, later) = rest.split_at(size);
        rest = later;
        deframer.push(piece);
        while let Some(frame) = deframer.next_frame().unwrap() {
            frames.push(frame);
        }
    }
    assert_eq!(deframer.next_frame(), Ok(None));
    frames
}

proptest! {
    #[test]
    fn host_messages_survive_any_split(
        messages in prop::collection::vec(host_message(), 0..6),
        pieces in prop::collection::vec(1..50usize, 1..8),
    ) {
        let mut stream = Vec::new();
        for message in &messages {
            message.encode(&mut stream).unwrap();
        }
        let received: Vec<_> =
            frames(&stream, &pieces).iter().map(|f| HostMessage::decode(f).unwrap()).collect();
        prop_assert_eq!(received, messages);
    }

    #[test]
    fn agent_messages_survive_any_split(
        messages in prop::collection::vec(agent_message(), 0..6),
        pieces in prop::collection::vec(1..50usize, 1..8),
    ) {
        let mut stream = Vec::new();
        for message in &messages {
            message.encode(&mut stream).unwrap();
        }
        let received: Vec<_> =
            frames(&stream, &pieces).iter().map(|f| AgentMessage::decode(f).unwrap()).collect();
        prop_assert_eq!(received, messages);
    }

    #[test]
    fn garbage_is_refused_or_read_but_never_panics(
        code in any::<u8>(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        stream in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let frame = Frame { code, payload };
        // Whatever is understood must be what the bytes said, so it encodes to the same bytes.
        if let Ok(message) = HostMessage::decode(&frame) {
            let mut again = Vec::new();
            message.encode(&mut again).unwrap();
            prop_assert_eq!(&again[5..], &frame.payload[..]);
        }
        if let Ok(message) = AgentMessage::decode(&frame) {
            let mut again = Vec::new();
            message.encode(&mut again).unwrap();
            prop_assert_eq!(&again[5..], &frame.payload[..]);
        }
        let mut deframer = Deframer::default();
        deframer.push(&stream);
        while let Ok(Some(_)) = deframer.next_frame() {}
    }

    #[test]
    fn a_message_cut_short_or_lengthened_is_refused(message in host_message(), cut in 0..100usize) {
        let mut stream = Vec::new();
        message.encode(&mut stream).unwrap();
        let payload = stream.split_off(5);
        let code = stream[4];
        let mut longer = payload.clone();
        longer.push(0);
        let longer = HostMessage::decode(&Frame { code, payload: longer });
        prop_assert!(longer.is_err());
        if !payload.is_empty() {
            let shorter = payload[..cut % payload.len()].to_vec();
            let shorter = HostMessage::decode(&Frame { code, payload: shorter });
            prop_assert!(shorter.is_err());
        }
    }
}

#[test]
fn a_frame_is_length_type_payload() {
    let mut stream = Vec::new();
    HostMessage::Signal { id: 0x0102_0304, signal: 9 }.encode(&mut stream).unwrap();
    assert_eq!(stream, [8, 0, 0, 0, 0x06, 4, 3, 2, 1, 9, 0, 0, 0]);
}

#[test]
fn an_announced_length_above_the_limit_is_refused_before_its_bytes_come() {
    let mut deframer = Deframer::default();
    let length = u32::try_from(MAX_PAYLOAD + 1).unwrap();
    deframer.push(&length.to_le_bytes());
    deframer.push(&[0x83]);
    assert_eq!(deframer.next_frame(), Err(ProtocolError::TooLarge { length: length.into() }));
}

#[test]
fn a_message_above_the_limit_is_not_sent() {
    let mut stream = vec![1, 2, 3];
    let message = HostMessage::Input { id: 1, data: vec![0; MAX_PAYLOAD] };
    assert!(matches!(message.encode(&mut stream), Err(ProtocolError::TooLarge { .. })));
    assert_eq!(stream, [1, 2, 3]);
}

#[test]
fn a_list_count_cannot_ask_for_memory_that_no_payload_could_fill() {
    // A Setup without root whose list of temporary directories claims four thousand million items.
    let frame = Frame { code: 0x02, payload: vec![0, 0xff, 0xff, 0xff, 0xff] };
    assert_eq!(HostMessage::decode(&frame), Err(ProtocolError::Truncated { message: "Setup" }));
}

#[test]
fn one_side_does_not_understand_its_own_messages() {
    let ping = Frame { code: 0x09, payload: 7u64.to_le_bytes().to_vec() };
    assert_eq!(HostMessage::decode(&ping), Ok(HostMessage::Ping(7)));
    assert_eq!(AgentMessage::decode(&ping), Err(ProtocolError::UnknownType(0x09)));
}

#[test]
fn an_executable_says_its_version() {
    assert_eq!(version_of_agent(AGENT_MARK.as_bytes()), Some(VERSION));
    let long = AGENT_MARK.replace(&format!("{VERSION};"), &format!("{};", "1".repeat(12)));
    assert_eq!(version_of_agent(long.as_bytes()), None);
}
