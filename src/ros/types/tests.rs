use super::*;

/// What ROS 2 Jazzy says of the types that it has.
const PUBLISHED: &[(&Type, &str)] = &[
    (&TIME, "RIHS01_b106235e25a4c5ed35098aa0a61a3ee9c9b18d197f398b0e4206cea9acf9c197"),
    (&DURATION, "RIHS01_e8d009f659816f758b75334ee1a9ca5b5c0b859843261f14c7f937349599d93b"),
    (&STRING, "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"),
    (&HEADER, "RIHS01_f49fb3ae2cf070f793645ff749683ac6b06203e41c891e17701b1cb597ce6a01"),
    (&IMAGE, "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"),
    (&COMPRESSED_IMAGE, "RIHS01_15640771531571185e2efc8a100baf923961a4d15d5569652e6cb6691e8e371a"),
    (&IMU, "RIHS01_7d9a00ff131080897a5ec7e26e315954b8eae3353c3f995c55faf71574000b5b"),
];

/// What the Python package `rosbags` 0.11 computes of our `.msg` files.
const OWN: &[(&Type, &str)] = &[
    (&FEATURE, "RIHS01_3c6b8e16dc82d8c26cadce5d8c8209c367630df538205da3a11fafd8576f342f"),
    (&DECISION, "RIHS01_4fa8b7e1457e29205f65d0be5d38684bc125df608decdc2c37b49d23d93d0532"),
    (&HEALTH, "RIHS01_f9b96de6f2e9f4b0d9eec2dc58e019228e2b8a19d739aec14cd6a9fa9a7076c3"),
];

#[test]
fn hashes_are_those_that_others_compute() {
    for (of, published) in PUBLISHED.iter().chain(OWN) {
        assert_eq!(of.hash(), *published, "{}", of.name);
    }
}

#[test]
fn every_type_says_all_that_it_needs() {
    for of in TYPES {
        let mut used: Vec<String> = Vec::new();
        for one in of.needs.iter().chain([of]) {
            for field in one.description().fields {
                let nested = field.field_type.nested_type_name;
                if !nested.is_empty() && !used.contains(&nested) {
                    used.push(nested);
                }
            }
        }
        let mut needed: Vec<String> = of.needs.iter().map(|needed| needed.name.to_owned()).collect();
        used.sort();
        needed.sort();
        assert_eq!(used, needed, "{}", of.name);
    }
}

#[test]
fn names_and_descriptions_have_their_forms() {
    assert_eq!(IMAGE.dds_name(), "sensor_msgs::msg::dds_::Image_");
    let rule = "=".repeat(80);
    let expected = format!(
        "builtin_interfaces/Time stamp\nstring frame_id\n{rule}\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
    );
    assert_eq!(HEADER.ros2msg(), expected);
}
