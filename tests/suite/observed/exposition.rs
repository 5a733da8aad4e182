//! A strict reader of the `OpenMetrics` text format: what it accepts, any Prometheus accepts.

use std::collections::{BTreeMap, BTreeSet};

/// Everything one scrape told.
#[derive(Debug, Default)]
pub struct Exposition {
    pub families: BTreeMap<String, Family>,
}

/// One metric and all its series.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub unit: Option<String>,
    pub samples: Vec<Sample>,
}

/// One line.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

type Mistake = String;

impl Exposition {
    /// Reads a whole exposition, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let body = text.strip_suffix("# EOF\n").ok_or("it does not end with `# EOF`")?;
        let mut exposition = Self::default();
        // The family that lines belong to; one that has ended cannot go on.
        let mut current: Option<String> = None;
        for line in body.split_inclusive('\n') {
            let line = line.strip_suffix('\n').ok_or_else(|| format!("`{line}` has no end"))?;
            if line.contains('\r') || line.trim() != line || line.is_empty() {
                return Err(format!("`{line}` has stray white space"));
            }
            if let Some(comment) = line.strip_prefix("# ") {
                current = Some(exposition.describe(comment, current.as_deref())?);
                continue;
            }
            let name = current.as_ref().ok_or_else(|| format!("`{line}` comes before any family"))?;
            let sample = sample(line)?;
            let family = exposition.families.get_mut(name).ok_or("no family")?;
            if !family.owns(name, &sample) {
                return Err(format!("`{line}` does not belong to the {} {name}", family.kind));
            }
            family.samples.push(sample);
        }
        for (name, family) in &exposition.families {
            family.check(name).map_err(|mistake| format!("{name}: {mistake}"))?;
        }
        Ok(exposition)
    }

    /// Takes a `# HELP`, `# TYPE` or `# UNIT` line.
    fn describe(&mut self, comment: &str, current: Option<&str>) -> Result<String, Mistake> {
        let mut words = comment.splitn(3, ' ');
        let (word, name, rest) = (words.next(), words.next().unwrap_or(""), words.next().unwrap_or(""));
        if !is_name(name, ":") {
            return Err(format!("`{name}` is no name of a metric"));
        }
        if current != Some(name) && self.families.contains_key(name) {
            return Err(format!("{name} is described in two places"));
        }
        let family = self.families.entry(name.to_owned()).or_default();
        if !family.samples.is_empty() {
            return Err(format!("{name} is described after its samples"));
        }
        let place = match word {
            Some("HELP") => &mut family.help,
            Some("TYPE") => &mut family.kind,
            Some("UNIT") => family.unit.get_or_insert_default(),
            _ => return Err(format!("`{comment}` is no comment of the format")),
        };
        if !place.is_empty() || rest.is_empty() {
            return Err(format!("`{comment}` is empty or repeated"));
        }
        *place = unescape(rest)?;
        Ok(name.to_owned())
    }

    /// The value of a series, by its full name and labels.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("{name}{labels:?} is not exposed: {self:#?}"))
    }

    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: BTreeMap<String, String> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut samples = self.families.values().flat_map(|family| &family.samples);
        samples.find(|sample| sample.name == name && sample.labels == wanted).map(|sample| sample.value)
    }

    /// Every series, without its value.
    pub fn series(&self) -> BTreeSet<String> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples.map(|sample| format!("{}{:?}", sample.name, sample.labels)).collect()
    }
}

impl Family {
    /// Whether a sample has a name that its family's kind allows.
    fn owns(&self, name: &str, sample: &Sample) -> bool {
        let suffixes: &[&str] = match self.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            _ => &[],
        };
        suffixes.iter().any(|suffix| sample.name.strip_suffix(suffix) == Some(name))
    }

    fn check(&self, name: &str) -> Result<(), Mistake> {
        if self.help.is_empty() || self.kind.is_empty() {
            return Err("it is not described".to_owned());
        }
        if let Some(unit) = &self.unit
            && !name.ends_with(&format!("_{unit}"))
        {
            return Err(format!("its name does not end in its unit, {unit}"));
        }
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            if !seen.insert((&sample.name, &sample.labels)) {
                return Err(format!("{:?} is repeated", sample.labels));
            }
            let is_negative = sample.value < 0.0;
            if self.kind != "gauge" && (is_negative || !sample.value.is_finite()) {
                return Err(format!("{:?} is {}", sample.labels, sample.value));
            }
            if self.kind == "info" && (sample.value - 1.0).abs() > f64::EPSILON {
                return Err("an info is not one".to_owned());
            }
        }
        if self.kind == "histogram" { self.check_histograms() } else { Ok(()) }
    }

    /// Buckets ascend, end with infinity, and agree with the count.
    fn check_histograms(&self) -> Result<(), Mistake> {
        let mut series: BTreeMap<BTreeMap<String, String>, Series> = BTreeMap::new();
        for sample in &self.samples {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le");
            let series = series.entry(labels).or_default();
            match (sample.name.rsplit('_').next(), bound) {
                (Some("bucket"), Some(bound)) => {
                    let bound = if bound == "+Inf" { f64::INFINITY } else { number(&bound)? };
                    series.buckets.push((bound, sample.value));
                }
                (Some("count"), None) => series.count = Some(sample.value),
                (Some("sum"), None) => series.sum = Some(sample.value),
                _ => return Err(format!("{sample:?} is no part of a histogram")),
            }
        }
        for (labels, Series { buckets, count, sum }) in series {
            let ascending = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            let last = buckets.last().filter(|(bound, _)| bound.is_infinite()).map(|(_, count)| *count);
            if !ascending || last.is_none() || last != count || sum.is_none() {
                return Err(format!("{labels:?}: {buckets:?} do not fit {count:?} and {sum:?}"));
            }
            if count == Some(0.0) && sum != Some(0.0) {
                return Err(format!("{labels:?}: nothing adds up to {sum:?}"));
            }
        }
        Ok(())
    }
}

/// One histogram while it is put together.
#[derive(Default)]
struct Series {
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: Option<f64>,
}

/// `name{label="value",…} number`. Time stamps and exemplars are not accepted: we send none.
fn sample(line: &str) -> Result<Sample, Mistake> {
    let end = line.find(['{', ' ']).ok_or_else(|| format!("`{line}` has no value"))?;
    let (name, rest) = line.split_at(end);
    if !is_name(name, ":") {
        return Err(format!("`{name}` is no name of a metric"));
    }
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = value.strip_prefix(' ').ok_or_else(|| format!("`{line}` has no value"))?;
    Ok(Sample { name: name.to_owned(), labels, value: number(value)? })
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), Mistake> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, after) = rest.split_once("=\"").ok_or_else(|| format!("`{rest}` is no label"))?;
        if !is_name(name, "") {
            return Err(format!("`{name}` is no name of a label"));
        }
        let mut escaped = false;
        let end = after
            .find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })
            .ok_or_else(|| format!("the value in `{rest}` has no end"))?;
        let (value, after) = after.split_at(end);
        if labels.insert(name.to_owned(), unescape(value)?).is_some() {
            return Err(format!("the label {name} is repeated"));
        }
        rest = &after[1..];
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        rest = rest.strip_prefix(',').ok_or_else(|| format!("`{rest}` follows a label"))?;
    }
}

fn unescape(text: &str) -> Result<String, Mistake> {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some('n') => plain.push('\n'),
                Some(c @ ('\\' | '"')) => plain.push(c),
                other => return Err(format!("`\\{other:?}` is no escape")),
            },
            '\n' | '"' => return Err(format!("`{text}` is not escaped")),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

fn is_name(text: &str, also: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || also.contains(c);
    !text.is_empty() && text.chars().all(allowed) && !text.starts_with(|c: char| c.is_ascii_digit())
}

fn number(text: &str) -> Result<f64, Mistake> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}

#[test]
fn what_is_right_is_read() {
    let text = "# HELP a_seconds How \\\"long\\\".\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                a_seconds_sum{x=\"q\\\"\\\\,}\"} 1.5\na_seconds_count{x=\"q\\\"\\\\,}\"} 2\n\
                a_seconds_bucket{le=\"1.0\",x=\"q\\\"\\\\,}\"} 1\n\
                a_seconds_bucket{le=\"+Inf\",x=\"q\\\"\\\\,}\"} 2\n# EOF\n";
    let exposition = Exposition::parse(text).expect("right");
    assert_eq!(exposition.families["a_seconds"].help, "How \"long\".");
    assert!((exposition.value("a_seconds_sum", &[("x", "q\"\\,}")]) - 1.5).abs() < f64::EPSILON);
}

#[test]
fn what_is_wrong_is_noticed() {
    let refused = |text: &str, expected: &str| {
        let mistake = Exposition::parse(text).expect_err(text);
        assert!(mistake.contains(expected), "{text}: {mistake}");
    };
    let gauge = "# HELP a b.\n# TYPE a gauge\n";
    refused("", "does not end");
    refused("a 1\n# EOF\n", "before any family");
    refused(&format!("{gauge}a 1\na 2\n# EOF\n"), "repeated");
    refused(&format!("{gauge}a x\n# EOF\n"), "no number");
    refused(&format!("{gauge}a_total 1\n# EOF\n"), "does not belong");
    refused(&format!("{gauge}a{{b=\"c\n\"}} 1\n# EOF\n"), "");
    refused(&format!("{gauge}a{{b=\"c\"d=\"e\"}} 1\n# EOF\n"), "follows a label");
    refused(&format!("{gauge}a{{b=\"c\",b=\"d\"}} 1\n# EOF\n"), "repeated");
    refused(&format!("{gauge}a{{1b=\"c\"}} 1\n# EOF\n"), "no name of a label");
    refused("# TYPE a gauge\na 1\n# EOF\n", "not described");
    refused("# HELP a b.\n# TYPE a gauge\n# UNIT a seconds\na 1\n# EOF\n", "unit");
    refused("# HELP a b.\n# TYPE a counter\na_total -1\n# EOF\n", "is -1");
    refused(&format!("{gauge}a 1\n# HELP b c.\n# TYPE b gauge\nb 1\n{gauge}# EOF\n"), "two places");
    let histogram = "# HELP a b.\n# TYPE a histogram\na_sum 1\n";
    refused(&format!("{histogram}a_count 1\na_bucket{{le=\"1\"}} 1\n# EOF\n"), "do not fit");
    refused(&format!("{histogram}a_count 2\na_bucket{{le=\"+Inf\"}} 1\n# EOF\n"), "do not fit");
    refused(
        &format!("{histogram}a_count 1\na_bucket{{le=\"1\"}} 2\na_bucket{{le=\"+Inf\"}} 1\n# EOF\n"),
        "do not fit",
    );
}
