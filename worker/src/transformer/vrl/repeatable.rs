//! What a program may not do, found in its syntax tree before it is compiled.
//!
//! The same row must give the same result on every worker, today and tomorrow: verification evaluates the transform
//! anew, and a batch whose outcome was lost is read back, not guessed. So a program may not read clock, chance, machine
//! or network, nor write logs (which would carry values of rows out of the shard).

use vrl::parser::Program;
use vrl::parser::ast::{
    Assignment, AssignmentTarget, Container, Expr, FunctionCall, IfStatement, Literal, Node, Predicate,
    Query, QueryTarget, RootExpr, Unary,
};
use vrl::path::PathPrefix;

/// Expressions inside expressions, at most: bounds the compiler's and the program's stack.
pub(super) const MAX_DEPTH: usize = 64;

/// Levels that a closure, or a path behind a call, counts for besides its own: the compiler's time and memory double
/// with each of them inside another, so eight of them are the most.
const DOUBLING: usize = 7;

const CLOCK: &str = "it reads the clock";
const YEAR: &str = "it reads the clock where the text has no year";
const CHANCE: &str = "it gives another value each time";
const MACHINE: &str = "it depends on the machine that runs it";
const NETWORK: &str = "it depends on the network";
const LOG: &str = "it would write values of rows to a log outside the shard";

/// Functions that are refused, and why. Some are not even compiled in: they are listed for the better message.
const REFUSED: &[(&str, &str)] = &[
    ("now", CLOCK),
    ("parse_groks", CLOCK),
    ("parse_klog", YEAR),
    ("parse_linux_authorization", YEAR),
    ("parse_syslog", YEAR),
    ("random_bool", CHANCE),
    ("random_bytes", CHANCE),
    ("random_float", CHANCE),
    ("random_int", CHANCE),
    ("uuid_v4", CHANCE),
    ("uuid_v7", CHANCE),
    ("get_env_var", MACHINE),
    ("get_hostname", MACHINE),
    ("get_timezone_name", MACHINE),
    ("dns_lookup", NETWORK),
    ("http_request", NETWORK),
    ("reverse_dns", NETWORK),
    ("log", LOG),
];

/// Functions whose third parameter `timezone` may say "local".
const ZONED: &[&str] = &["format_timestamp", "parse_timestamp"];

/// What is wrong with the program: byte offset and message, in order of appearance.
pub(super) fn findings(program: Program) -> Vec<(usize, String)> {
    let mut walk = Walk { open: Vec::new(), depth: 1, too_deep: None, findings: Vec::new() };
    for root in program {
        if let RootExpr::Expr(expression) = root.into_inner() {
            let at = expression.start();
            walk.open.push((1, at, expression.into_inner()));
        }
    }
    // A loop and not a recursion, since the depth is what is being measured.
    while let Some((depth, at, expression)) = walk.open.pop() {
        walk.depth = depth + 1;
        walk.measure(at, 0);
        walk.enter(at, expression);
    }
    if let Some(at) = walk.too_deep {
        let message =
            format!("expressions are nested deeper than {MAX_DEPTH}; use a variable for a part of them");
        walk.findings.push((at, message));
    }
    walk.findings.sort();
    walk.findings
}

/// The state of one walk over a syntax tree, which is taken apart on the way.
struct Walk {
    open: Vec<(usize, usize, Expr)>,
    depth: usize,
    too_deep: Option<usize>,
    findings: Vec<(usize, String)>,
}

impl Walk {
    /// Notes the first place that is too deep, with `more` levels that have no expressions of their own.
    fn measure(&mut self, at: usize, more: usize) {
        if self.depth + more > MAX_DEPTH + 1 {
            self.too_deep = Some(self.too_deep.map_or(at, |earlier| earlier.min(at)));
        }
    }

    fn visit(&mut self, node: Node<Expr>) {
        let at = node.start();
        self.open.push((self.depth, at, node.into_inner()));
    }

    fn visit_all(&mut self, nodes: impl IntoIterator<Item = Node<Expr>>) {
        nodes.into_iter().for_each(|node| self.visit(node));
    }

    fn enter(&mut self, at: usize, expression: Expr) {
        match expression {
            Expr::Variable(_) | Expr::Break(_) => {}
            Expr::Literal(literal) => {
                // The compiler turns a template into one sum.
                if let Literal::String(template) = literal.inner() {
                    self.measure(at, template.0.len());
                }
            }
            Expr::Container(container) => self.container(container.into_inner()),
            Expr::IfStatement(branch) => self.branch(branch.into_inner()),
            Expr::Op(op) => {
                let op = op.into_inner();
                self.visit(*op.0);
                self.visit(*op.2);
            }
            Expr::Assignment(assignment) => self.assignment(at, assignment.into_inner()),
            Expr::Query(query) => self.query(at, query.into_inner()),
            Expr::FunctionCall(call) => self.call(at, call.into_inner()),
            Expr::Unary(unary) => {
                let Unary::Not(not) = unary.into_inner();
                self.visit(*not.into_inner().take().1);
            }
            Expr::Abort(abort) => self.visit_all(abort.into_inner().message.map(|message| *message)),
            Expr::Return(returned) => self.visit(*returned.into_inner().expr),
        }
    }

    fn container(&mut self, container: Container) {
        match container {
            Container::Group(group) => self.visit(group.into_inner().into_inner()),
            Container::Block(block) => self.visit_all(block.into_inner()),
            Container::Array(array) => self.visit_all(array.into_inner()),
            Container::Object(object) => {
                self.visit_all(object.into_inner().into_iter().map(|(_, value)| value));
            }
        }
    }

    fn branch(&mut self, branch: IfStatement) {
        match branch.predicate.into_inner() {
            Predicate::One(condition) => self.visit(*condition),
            Predicate::Many(conditions) => self.visit_all(conditions),
        }
        self.visit_all(branch.if_node.into_inner());
        self.visit_all(branch.else_node.into_iter().flat_map(Node::into_inner));
    }

    fn assignment(&mut self, at: usize, assignment: Assignment) {
        let (targets, expression) = match assignment {
            Assignment::Single { target, expr, .. } => (vec![target], expr),
            Assignment::Infallible { ok, err, expr, .. } => (vec![ok, err], expr),
        };
        for target in targets {
            match target.into_inner() {
                AssignmentTarget::Query(query) => self.query(at, query),
                AssignmentTarget::External(Some(path)) => {
                    self.measure(at, path.path.segments.len());
                    self.prefix(at, path.prefix);
                }
                AssignmentTarget::Internal(_, Some(path)) => self.measure(at, path.segments.len()),
                AssignmentTarget::Noop
                | AssignmentTarget::Internal(_, None)
                | AssignmentTarget::External(None) => {}
            }
        }
        self.visit(*expression);
    }

    fn query(&mut self, at: usize, query: Query) {
        self.measure(at, query.path.inner().segments.len());
        match query.target.into_inner() {
            QueryTarget::Internal(_) => {}
            QueryTarget::External(prefix) => self.prefix(at, prefix),
            QueryTarget::FunctionCall(call) => {
                self.depth += DOUBLING;
                self.call(at, call);
            }
            QueryTarget::Container(container) => {
                self.depth += DOUBLING;
                self.container(container);
            }
        }
    }

    fn prefix(&mut self, at: usize, prefix: PathPrefix) {
        if prefix == PathPrefix::Metadata {
            self.refuse(at, "`%` is not there: a document has no metadata, use `.`".to_owned());
        }
    }

    fn call(&mut self, at: usize, call: FunctionCall) {
        let name = call.ident.inner().as_ref();
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            self.refuse(
                at,
                format!("{name}() is not allowed: {reason}, and a row must always give the same result"),
            );
        }
        if ZONED.contains(&name) {
            self.zone(at, &call);
        }
        if call.closure.is_some() {
            self.depth += DOUBLING;
        }
        self.visit_all(call.arguments.into_iter().map(|argument| argument.into_inner().expr));
        self.visit_all(call.closure.into_iter().flat_map(|closure| closure.into_inner().block.into_inner()));
    }

    /// "local", or a zone that is only known later, could differ from worker to worker.
    fn zone(&mut self, at: usize, call: &FunctionCall) {
        let unnamed = call.arguments.iter().filter(|argument| argument.ident.is_none()).nth(2);
        let named = call.arguments.iter().find(|argument| {
            argument.ident.as_ref().is_some_and(|ident| ident.inner().as_ref() == "timezone")
        });
        let Some(zone) = named.or(unnamed) else { return };
        let written = match zone.expr.inner() {
            Expr::Literal(literal) => match literal.inner() {
                Literal::String(template) => template.as_literal_string().map(str::to_owned),
                Literal::RawString(text) => Some(text.clone()),
                _ => None,
            },
            _ => None,
        };
        if matches!(written.as_deref(), None | Some("" | "local")) {
            let name = call.ident.inner();
            self.refuse(
                at,
                format!("the timezone of {name}() must be written out, such as \"Europe/Paris\""),
            );
        }
    }

    fn refuse(&mut self, at: usize, message: String) {
        self.findings.push((at, message));
    }
}

/// The names of the refused functions.
#[cfg(test)]
pub(super) fn refused() -> Vec<&'static str> {
    REFUSED.iter().map(|(name, _)| *name).collect()
}
