use super::*;

fn small(threads: usize) -> Settings {
    let spec = crate::model::load("robot").unwrap();
    Settings { spec, seed: 3, samples: 200, labels: 20, test_frames: 16, drive_steps: 10, threads }
}

#[test]
fn the_same_settings_give_the_same_demo_on_any_number_of_threads() {
    let page = |threads| {
        let found = run(&small(threads), &|_, _, _| {}).unwrap();
        assert_eq!(found.contenders.len(), 4);
        assert!(found.masks.scores.len() == 4 && found.masks.scores[0].overlap[0] > 0.3, "{:?}", found.masks.scores);
        let same = Found { settings: small(1), ..found };
        report(&same, "nestling demo", 1.0).unwrap().to_html()
    };
    let one = page(1);
    assert!(one == page(2), "the report depends on the number of threads");
    let sections =
        ["The driven tracks", "Learning without labels", "What it saw", "Features in two dimensions", "Where is what"];
    for wanted in
        sections.into_iter().chain(["How it drove", "How this was made", "untrained encoder", "data:image/png"])
    {
        assert!(one.contains(wanted), "{wanted} is missing");
    }
}

#[test]
fn too_few_frames_are_refused() {
    let problem = run(&Settings { samples: 10, ..small(1) }, &|_, _, _| {}).unwrap_err().to_string();
    assert!(problem.contains("at least 200 frames"), "{problem}");
}
