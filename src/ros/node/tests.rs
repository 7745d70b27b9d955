use std::net::TcpListener;

use super::*;
use crate::ros::messages::{Message, Text};
use crate::ros::{decode, encode};

/// A loopback port that was free just now.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a port").port()
}

fn pair() -> (ZenohTable, ZenohTable) {
    let endpoint = vec![format!("tcp/127.0.0.1:{}", free_port())];
    let peer = ZenohTable { mode: Mode::Peer, connect: Vec::new(), node: "talker".into(), ..ZenohTable::default() };
    let listens = ZenohTable { listen: endpoint.clone(), namespace: "/robot".into(), domain: 7, ..peer.clone() };
    (listens, ZenohTable { connect: endpoint, node: "listener".into(), domain: 7, ..peer })
}

/// Keys, tokens and what goes along, as `rmw_zenoh_cpp` writes them, spelled out.
#[test]
fn a_graph_sees_the_node_and_its_topic() {
    let (talks, listens) = pair();
    let mut talker = Node::open(&talks).unwrap();
    let mut publisher = talker.publisher(&talks.topic("chatter"), Text::TYPE).unwrap();
    let listener = Node::open(&listens).unwrap();
    let reader = listener.session().declare_subscriber("7/**").with(RingChannel::new(8)).wait().unwrap();

    let zid = talker.session().zid();
    let hash = "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18";
    let node = format!("@ros2_lv/7/{zid}/0/0/NN/%/%robot/talker");
    let topic = format!(
        "@ros2_lv/7/{zid}/0/1/MP/%/%robot/talker/%robot%talker%chatter/std_msgs::msg::dds_::String_/{hash}/::,10:,:,:,,"
    );
    let tokens = || {
        let replies = listener.session().liveliness().get("@ros2_lv/7/**").wait().unwrap();
        let keys = replies.into_iter().filter_map(|reply| Some(reply.result().ok()?.key_expr().as_str().to_owned()));
        keys.filter(|key| key.contains("/talker")).collect::<Vec<_>>()
    };
    let mut seen = Vec::new();
    for _ in 0..100 {
        seen = tokens();
        if seen.len() == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    seen.sort();
    assert_eq!(seen, [node, topic.clone()]);

    let text = encode(&Text { data: "hello".into() }).unwrap();
    let sample = (0..100).find_map(|_| {
        publisher.publish(text.clone()).unwrap();
        reader.recv_timeout(Duration::from_millis(100)).unwrap()
    });
    let sample = sample.expect("a message within 10 s");
    assert_eq!(sample.key_expr().as_str(), format!("7/robot/talker/chatter/std_msgs::msg::dds_::String_/{hash}"));
    assert_eq!(sample.payload().to_bytes(), text);
    let attached = sample.attachment().expect("something goes along").to_bytes();
    let (number, gid) = numbered(&attached).expect("33 bytes");
    assert!(number >= 1 && gid == xxh3_128(topic.as_bytes()).to_le_bytes());

    // Whoever leaves is no longer in the graph.
    drop(publisher);
    drop(talker);
    for _ in 0..100 {
        seen = tokens();
        if seen.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("still there: {seen:?}");
}

#[test]
fn a_subscriber_gets_what_a_publisher_sends() {
    let (talks, listens) = pair();
    let mut talker = Node::open(&talks).unwrap();
    let mut publisher = talker.publisher("/chatter", Text::TYPE).unwrap();
    let mut listener = Node::open(&listens).unwrap();
    let subscriber = listener.subscriber("/chatter", Text::TYPE, 4).unwrap();
    let text = encode(&Text { data: "hello".into() }).unwrap();
    let arrived = (0..100).find_map(|_| {
        publisher.publish(text.clone()).unwrap();
        subscriber.take(Duration::from_millis(100)).unwrap()
    });
    let arrived = arrived.expect("a message within 10 s");
    assert_eq!(decode::<Text>(&arrived.message()).unwrap().data, "hello");
    assert!(arrived.number().is_some());
}

#[test]
fn where_nobody_answers_there_is_a_remedy() {
    let nobody = format!("tcp/127.0.0.1:{}", free_port());
    let table = ZenohTable { connect: vec![nobody.clone()], ..ZenohTable::default() };
    let problem = Node::open(&table).err().expect("nobody listens").to_string();
    assert!(problem.contains(&nobody) && problem.contains("what to do"), "{problem}");
}

#[test]
fn what_goes_along_is_read_or_ignored() {
    let attached = attachment(42, UNIX_EPOCH + Duration::from_nanos(7), &[9; 16]);
    assert_eq!(numbered(&attached), Some((42, [9; 16])));
    for len in 0..attached.len() {
        assert_eq!(numbered(&attached[..len]), None);
    }
}
