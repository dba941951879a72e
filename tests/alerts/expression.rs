//! Reads an expression: which labels its result has, and what would never match or never compare.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::label::{MatchOp, Matchers};
use promql_parser::parser::token::{T_BOTTOMK, T_COUNT_VALUES, T_LOR, T_LUNLESS, T_TOPK};
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector,
    parse,
};

/// What is known of a metric.
pub struct Metric {
    /// Whether it is a counter.
    pub counter: bool,
    /// Its labels, those of the target too.
    pub labels: BTreeSet<String>,
}

impl Metric {
    /// A gauge with these labels.
    pub fn gauge(labels: BTreeSet<String>) -> Self {
        Self {
            counter: false,
            labels,
        }
    }
}

/// Reads expressions and notes what it finds.
pub struct Reader<'a> {
    metrics: &'a BTreeMap<String, Metric>,
    /// What is wrong, in sentences.
    pub problems: Vec<String>,
    /// Whether anything is compared, or left out.
    pub filters: bool,
    /// The thresholds with their defaults.
    pub thresholds: BTreeMap<String, f64>,
}

/// Functions that counters are for; a counter elsewhere is its whole past.
const OF_COUNTERS: [&str; 4] = ["rate", "irate", "increase", "resets"];
/// Functions that only look whether there is anything.
const OF_ALL: [&str; 2] = ["changes", "present_over_time"];

impl<'a> Reader<'a> {
    /// One that knows these metrics.
    pub fn new(metrics: &'a BTreeMap<String, Metric>) -> Self {
        Self {
            metrics,
            problems: Vec::new(),
            filters: false,
            thresholds: BTreeMap::new(),
        }
    }

    /// The labels of the result.
    pub fn read(&mut self, text: &str) -> BTreeSet<String> {
        match parse(text) {
            Ok(expr) => self.vector(&expr, "").unwrap_or_default(),
            Err(error) => {
                self.problems.push(format!("is no PromQL: {error}"));
                BTreeSet::new()
            }
        }
    }

    /// The labels, or nothing for a number; `function` is the one that is called with this.
    fn vector(&mut self, expr: &Expr, function: &str) -> Option<BTreeSet<String>> {
        match expr {
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => None,
            Expr::Paren(inner) => self.vector(&inner.expr, function),
            Expr::Unary(inner) => self.vector(&inner.expr, function),
            Expr::Subquery(inner) => self.vector(&inner.expr, function),
            Expr::VectorSelector(selector) => Some(self.selector(selector, function)),
            Expr::MatrixSelector(selector) => Some(self.selector(&selector.vs, function)),
            Expr::Call(call) => self.call(call),
            Expr::Aggregate(aggregate) => Some(self.aggregate(aggregate)),
            Expr::Binary(binary) => self.binary(binary),
        }
    }

    fn selector(&mut self, selector: &VectorSelector, function: &str) -> BTreeSet<String> {
        let name = selector.name.clone().unwrap_or_default();
        // What users record, with or without a namespace; without a name, all of it.
        if name.starts_with("threshold:") {
            return BTreeSet::from(["namespace".to_owned()]);
        }
        if name.is_empty() {
            return BTreeSet::from(["namespace", "__name__"].map(str::to_owned));
        }
        let metrics = self.metrics;
        // Settings are one metric each, and the catalogue cannot know them all.
        let known = metrics.get(&name).or_else(|| {
            let setting = name.starts_with("pg_settings_");
            setting.then(|| &metrics["pg_settings_*"])
        });
        let Some(metric) = known else {
            self.problems.push(format!("there is no metric {name}"));
            return BTreeSet::new();
        };
        if metric.counter != OF_COUNTERS.contains(&function) && !OF_ALL.contains(&function) {
            let kind = if metric.counter { "counter" } else { "gauge" };
            self.problems
                .push(format!("{name} is a {kind}, so not for {function}()"));
        }
        self.matchers(&name, &selector.matchers, &metric.labels);
        metric.labels.clone()
    }

    fn matchers(&mut self, name: &str, matchers: &Matchers, labels: &BTreeSet<String>) {
        for matcher in &matchers.matchers {
            if !labels.contains(&matcher.name) {
                self.problems
                    .push(format!("{name} has no label {}", matcher.name));
            }
            let regex = matches!(matcher.op, MatchOp::Re(_) | MatchOp::NotRe(_));
            if regex && !matcher.value.contains(['.', '|', '[', '*', '+', '?']) {
                self.problems
                    .push(format!("{:?} needs no regular expression", matcher.value));
            }
        }
    }

    fn call(&mut self, call: &Call) -> Option<BTreeSet<String>> {
        let arguments = call.args.args.iter();
        let labels = arguments.filter_map(|argument| self.vector(argument, call.func.name));
        let labels = labels.reduce(|one, _| one);
        match call.func.name {
            "scalar" | "time" => None,
            "vector" => Some(BTreeSet::new()),
            "label_replace" => {
                let mut labels = labels.unwrap_or_default();
                if let Some(Expr::StringLiteral(label)) = call.args.args.get(1).map(|arg| &**arg) {
                    labels.insert(label.val.clone());
                }
                Some(labels)
            }
            _ => labels,
        }
    }

    fn aggregate(&mut self, aggregate: &AggregateExpr) -> BTreeSet<String> {
        let inner = self.vector(&aggregate.expr, "").unwrap_or_default();
        if [T_TOPK, T_BOTTOMK].contains(&aggregate.op.id()) {
            self.problems.push("topk changes its mind".to_owned());
        }
        let Some(LabelModifier::Include(by)) = &aggregate.modifier else {
            self.problems
                .push(format!("{} says not by which labels", aggregate.op));
            return BTreeSet::new();
        };
        let mut by: BTreeSet<_> = by.labels.iter().cloned().collect();
        self.subset(&by, &inner);
        if let (T_COUNT_VALUES, Some(Expr::StringLiteral(label))) =
            (aggregate.op.id(), aggregate.param.as_deref())
        {
            by.insert(label.val.clone());
        }
        by
    }

    fn binary(&mut self, binary: &BinaryExpr) -> Option<BTreeSet<String>> {
        let op = binary.op;
        let modifier = binary.modifier.as_ref();
        let to_bool = modifier.is_some_and(|modifier| modifier.return_bool);
        self.filters |= op.is_comparison_operator() && !to_bool || op.id() == T_LUNLESS;
        self.threshold(binary);
        let sides = (self.vector(&binary.lhs, ""), self.vector(&binary.rhs, ""));
        let (left, right) = match sides {
            (Some(left), Some(right)) => (left, right),
            (left, right) => return left.or(right),
        };
        let on = modifier.and_then(|modifier| modifier.matching.as_ref());
        let Some(on) = on else {
            if left != right {
                self.problems.push(format!(
                    "{op} compares {left:?} with {right:?}, so it needs on()"
                ));
            }
            return Some(left);
        };
        let LabelModifier::Include(on) = on else {
            self.problems.push(format!("{op} has ignoring(), not on()"));
            return Some(left);
        };
        let on: BTreeSet<_> = on.labels.iter().cloned().collect();
        self.subset(&on, &left);
        self.subset(&on, &right);
        if op.id() == T_LOR {
            return Some(left.intersection(&right).cloned().collect());
        }
        if op.is_set_operator() {
            return Some(left);
        }
        match modifier.map(|modifier| &modifier.card) {
            Some(VectorMatchCardinality::ManyToOne(more)) => {
                let more: BTreeSet<_> = more.labels.iter().cloned().collect();
                self.subset(&more, &right);
                Some(left.union(&more).cloned().collect())
            }
            _ => Some(on),
        }
    }

    /// `min by () (threshold:NAME{...}) or vector(DEFAULT)`.
    fn threshold(&mut self, binary: &BinaryExpr) {
        let (Expr::Aggregate(own), Expr::Call(default)) = (&*binary.lhs, &*binary.rhs) else {
            return;
        };
        let value = default.args.args.first().map(|argument| &**argument);
        if let (Expr::VectorSelector(own), Some(Expr::NumberLiteral(value))) = (&*own.expr, value) {
            let name = own.name.clone().unwrap_or_default();
            self.thresholds.insert(name, value.val);
        }
    }

    fn subset(&mut self, some: &BTreeSet<String>, all: &BTreeSet<String>) {
        for label in some.difference(all) {
            self.problems
                .push(format!("there is no label {label} among {all:?}"));
        }
    }
}
