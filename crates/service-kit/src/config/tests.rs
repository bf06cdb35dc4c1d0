use std::collections::BTreeMap;
use std::io::Write;

use serde::Deserialize;

use super::*;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Config {
    node_id: Option<i32>,
    listen: String,
    rack: Option<String>,
    controllers: Vec<String>,
    journal: Journal,
    topic_defaults: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Journal {
    size_bytes: u64,
    flush_ms_max: u32,
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Direct,
    Buffered,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            node_id: None,
            listen: "0.0.0.0:7000".to_owned(),
            rack: None,
            controllers: Vec::new(),
            journal: Journal::default(),
            topic_defaults: BTreeMap::new(),
        }
    }
}

impl Default for Journal {
    fn default() -> Journal {
        Journal { size_bytes: 512, flush_ms_max: 10, mode: Mode::Direct }
    }
}

fn options(file: &str, environment: &[(&str, &str)]) -> (LoadOptions, Option<tempfile::NamedTempFile>) {
    let file = (!file.is_empty()).then(|| {
        let mut named = tempfile::Builder::new().prefix("thalweg").suffix(".toml").tempfile().unwrap();
        named.write_all(file.as_bytes()).unwrap();
        named
    });
    let variables = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let path = file.as_ref().map(|file| file.path().to_owned());
    (LoadOptions { file: path, ..LoadOptions::default() }.environment(variables), file)
}

fn refusal(file: &str, environment: &[(&str, &str)]) -> String {
    let (options, file) = options(file, environment);
    let message = load::<Config>(options).unwrap_err().to_string();
    match file {
        Some(file) => message.replace(&file.path().display().to_string(), "FILE"),
        None => message,
    }
}

#[test]
fn later_layers_win_and_every_value_knows_its_origin() {
    let (options, file) = options(
        "listen = \"file:1\"\nrack = \"file\"\n[journal]\nsize_bytes = 1024\nmode = \"buffered\"\n",
        &[("THALWEG_JOURNAL__SIZE_BYTES", "2048"), ("THALWEG_RACK", "env"), ("OTHER", "x")],
    );
    let path = file.as_ref().unwrap().path().to_owned();
    let options = options.flag("--rack", "rack", Some("flag")).flag("--node-id", "node_id", None::<i32>);
    let loaded = load::<Config>(options).unwrap();
    let config = &loaded.config;
    assert_eq!(config.journal, Journal { size_bytes: 2048, flush_ms_max: 10, mode: Mode::Buffered });
    assert_eq!((config.listen.as_str(), config.rack.as_deref(), config.node_id), ("file:1", Some("flag"), None));
    assert_eq!(loaded.origin("rack"), Some(&Origin::Flag("--rack".to_owned())));
    assert_eq!(
        loaded.origin("journal.size_bytes"),
        Some(&Origin::Environment("THALWEG_JOURNAL__SIZE_BYTES".to_owned()))
    );
    assert_eq!(loaded.origin("journal.mode"), Some(&Origin::File(path)));
    assert_eq!(loaded.origin("journal.flush_ms_max"), Some(&Origin::Default));
}

#[test]
fn the_print_is_a_file_that_says_the_same() {
    let (options, _file) = options("", &[("THALWEG_CONTROLLERS", "a:1, b:2"), ("THALWEG_RACK", "r1")]);
    let loaded = load::<Config>(options.flag("--node-id", "node_id", Some(3))).unwrap();
    let print = loaded.print();
    assert!(print.contains("node_id = 3"), "{print}");
    assert!(print.contains("# flag --node-id"), "{print}");
    assert!(print.contains("controllers = [\"a:1\", \"b:2\"]"), "{print}");
    assert!(print.contains("# environment variable THALWEG_CONTROLLERS"), "{print}");
    assert!(print.contains("journal.size_bytes = 512"), "{print}");
    let read: Config = toml::from_str(&print).unwrap();
    assert_eq!(read, loaded.config);
}

#[test]
fn unset_values_are_printed_as_comments() {
    let print = load::<Config>(LoadOptions::default()).unwrap().print();
    assert!(print.lines().any(|line| line.starts_with("# node_id =")), "{print}");
}

#[test]
fn an_unknown_key_is_named_with_its_source_and_the_closest_key() {
    assert_eq!(
        refusal("[journal]\nsize_byte = 1\n", &[]),
        "unknown key `journal.size_byte` (file FILE); did you mean `journal.size_bytes`?"
    );
    assert_eq!(
        refusal("", &[("THALWEG_JORNAL__SIZE_BYTES", "1")]),
        "unknown key `jornal.size_bytes` (environment variable THALWEG_JORNAL__SIZE_BYTES); did you mean `journal.size_bytes`?"
    );
    assert_eq!(
        refusal("size_bytes = 1\n", &[]),
        "unknown key `size_bytes` (file FILE); did you mean `journal.size_bytes`?"
    );
    assert_eq!(refusal("zzz = 1\n", &[]), "unknown key `zzz` (file FILE); --print-config lists the keys there are");
    // All of them at once, so that one run is enough to mend a file.
    assert_eq!(refusal("zzz = 1\nyyy = 2\n", &[]).lines().count(), 2);
}

#[test]
fn a_value_of_the_wrong_kind_is_named_with_source_and_expectation() {
    assert_eq!(
        refusal("[journal]\nsize_bytes = \"big\"\n", &[]),
        "`journal.size_bytes` (file FILE) is \"big\"; expected: a whole number, 0 or more"
    );
    assert_eq!(
        refusal("", &[("THALWEG_JOURNAL__SIZE_BYTES", "-1")]),
        "`journal.size_bytes` (environment variable THALWEG_JOURNAL__SIZE_BYTES) is -1; expected: a whole number, 0 or more"
    );
    assert_eq!(
        refusal("", &[("THALWEG_JOURNAL__FLUSH_MS_MAX", "4294967296")]),
        "`journal.flush_ms_max` (environment variable THALWEG_JOURNAL__FLUSH_MS_MAX) is 4294967296; \
         expected: a whole number from 0 to 4294967295"
    );
    assert_eq!(refusal("journal = 3\n", &[]), "`journal` (file FILE) is 3; expected: a section of keys");
    assert_eq!(
        refusal("[journal]\nmode = \"fast\"\n", &[]),
        "`journal.mode` (file FILE) is \"fast\"; expected: one of direct, buffered"
    );
}

#[test]
fn a_number_where_text_is_wanted_is_text_when_it_comes_from_the_environment() {
    let (options, _file) = options("", &[("THALWEG_RACK", "17"), ("THALWEG_LISTEN", "9")]);
    let config = load::<Config>(options).unwrap().config;
    assert_eq!((config.rack.as_deref(), config.listen.as_str()), (Some("17"), "9"));
    // In a file the writer can say which it is.
    assert_eq!(refusal("rack = 17\n", &[]), "`rack` (file FILE) is 17; expected: a string");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_said_so() {
    let options = LoadOptions { file: Some("/nonexistent/thalweg.toml".into()), ..LoadOptions::default() };
    let error = load::<Config>(options).unwrap_err();
    assert_eq!(error.to_string(), "the configuration file /nonexistent/thalweg.toml cannot be read");
    assert!(std::error::Error::source(&error).is_some());

    let message = refusal("listen = \n", &[]);
    assert!(message.starts_with("the configuration file FILE is no TOML: "), "{message}");
    assert!(message.contains("line 1"), "{message}");
}

#[test]
fn maps_without_fixed_keys_take_any() {
    let (options, _file) = options("[topic_defaults]\n\"retention.ms\" = \"5\"\n", &[]);
    let config = load::<Config>(options).unwrap().config;
    assert_eq!(config.topic_defaults["retention.ms"], "5");
}

#[test]
fn where_the_command_line_tool_goes_does_not_stop_a_service() {
    let (options, _file) = options("", &[("THALWEG_BOOTSTRAP", "k1:9092")]);
    assert_eq!(load::<Config>(options).unwrap().config, Config::default());
}

#[test]
fn what_kubernetes_says_about_services_is_no_configuration() {
    let (options, _file) = options(
        "",
        &[
            ("THALWEG_GATEWAY_SERVICE_HOST", "10.0.0.1"),
            ("THALWEG_GATEWAY_SERVICE_PORT_KAFKA", "9092"),
            ("THALWEG_GATEWAY_PORT", "tcp://10.0.0.1:9092"),
            ("THALWEG_GATEWAY_PORT_9092_TCP_ADDR", "10.0.0.1"),
            ("THALWEG_CONFIG", "/etc/thalweg.toml"),
        ],
    );
    assert_eq!(load::<Config>(options).unwrap().config, Config::default());
}

#[test]
fn a_service_refuses_a_value_in_the_same_words() {
    let (options, _file) = options("", &[("THALWEG_LISTEN", "nowhere")]);
    let loaded = load::<Config>(options).unwrap();
    assert_eq!(
        loaded.refuse("listen", "host:port").to_string(),
        "`listen` (environment variable THALWEG_LISTEN) is \"nowhere\"; expected: host:port"
    );
    assert_eq!(
        loaded.refuse("node_id", "a number of its own for every node").to_string(),
        "`node_id` (default) is not set; expected: a number of its own for every node"
    );
}
