//! What is known about one config.

/// One config. The tables of them are [`super::TOPIC_CONFIGS`] and [`super::BROKER_CONFIGS`], in order of name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Definition {
    pub name: &'static str,
    pub kind: Kind,
    /// As text, in the form DescribeConfigs shows. `None`: Kafka's null.
    pub default: Option<&'static str>,
    pub rule: Rule,
    /// Topic configs: the broker configs that stand in for it, the strongest first.
    /// Broker configs: the names that mean the same in other units, itself included, the strongest first.
    pub server_names: &'static [ServerName],
    pub dynamic: Dynamic,
    /// Kafka hides internal configs from DescribeConfigs unless they are set.
    pub internal: bool,
    pub documentation: &'static str,
}

/// A broker config that gives a topic config its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerName {
    pub name: &'static str,
    pub unit: Unit,
}

/// How the broker config's number becomes the topic config's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Same,
    MinutesToMs,
    HoursToMs,
}

/// The type of a config's value. The numbers are DescribeConfigs' type codes (KIP-569).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    /// Never shown.
    Password = 9,
}

/// What a value must satisfy beyond its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    /// Gzip levels: 1 to 9, or -1 for the library's own default.
    GzipLevel,
    OneOf(&'static [&'static str]),
    OneOfIgnoringCase(&'static [&'static str]),
    /// Every element is one of these; an element given twice counts once.
    EachOf(&'static [&'static str]),
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
}

/// When a change takes effect (KIP-226).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamic {
    ReadOnly,
    /// Only on one broker's resource.
    PerBroker,
    ClusterWide,
}

impl Kind {
    /// The type's code in DescribeConfigs.
    pub fn code(self) -> i8 {
        self as i8
    }

    /// Kafka's name of the type, as its error texts have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }
}

impl Definition {
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    pub fn is_read_only(&self) -> bool {
        self.dynamic == Dynamic::ReadOnly
    }
}

impl Unit {
    /// The topic's value of a broker's `value`.
    pub fn convert(self, value: &str) -> String {
        let factor = match self {
            Unit::Same => return value.to_owned(),
            Unit::MinutesToMs => 60_000,
            Unit::HoursToMs => 3_600_000,
        };
        value.trim().parse::<i64>().map_or_else(|_| value.to_owned(), |n| n.saturating_mul(factor).to_string())
    }
}
