//! Which of several coordinators to dial next: the one that is said to lead, else those of the list in turn.

/// A list of addresses, and whom a refusal named. Never empty: an empty list would leave nobody to ask.
#[derive(Debug, Clone)]
pub struct Route<A> {
    first: A,
    others: Vec<A>,
    turn: usize,
    hint: Option<A>,
}

impl<A: Clone + PartialEq> Route<A> {
    /// These, in turn; `None` without any.
    pub fn new(addresses: impl IntoIterator<Item = A>) -> Option<Self> {
        let mut addresses = addresses.into_iter();
        let first = addresses.next()?;
        Some(Self { others: addresses.collect(), ..Self::of(first) })
    }

    /// This one alone.
    pub fn of(address: A) -> Self {
        Self { first: address, others: Vec::new(), turn: 0, hint: None }
    }

    /// How many there are in the list.
    pub fn listed(&self) -> usize {
        1 + self.others.len()
    }

    /// Whom to dial now.
    pub fn current(&self) -> &A {
        match (&self.hint, self.turn) {
            (Some(hint), _) => hint,
            (None, 0) => &self.first,
            (None, turn) => self.others.get(turn - 1).unwrap_or(&self.first),
        }
    }

    /// This one could not be dialled, or did not help; `hint`: whom it named instead. A hint that leads back to who has
    /// just refused helps nobody.
    pub fn failed(&mut self, hint: Option<A>) {
        let hint = hint.filter(|hint| hint != self.current());
        if self.hint.is_none() {
            self.turn = (self.turn + 1) % self.listed();
        }
        self.hint = hint;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route<&'static str> {
        Route::new(["a", "b", "c"]).expect("not empty")
    }

    fn dialled(route: &mut Route<&'static str>, hint: Option<&'static str>) -> &'static str {
        route.failed(hint);
        route.current()
    }

    #[test]
    fn without_a_hint_the_list_goes_round() {
        let mut route = route();
        assert_eq!(*route.current(), "a");
        assert_eq!([(); 4].map(|()| dialled(&mut route, None)), ["b", "c", "a", "b"]);
        assert!(Route::<&str>::new([]).is_none());
    }

    #[test]
    fn a_hint_goes_first_and_the_list_goes_on_when_it_fails() {
        let mut route = route();
        assert_eq!(dialled(&mut route, Some("far")), "far");
        assert_eq!(dialled(&mut route, None), "b");
        assert_eq!(dialled(&mut route, Some("c")), "c");
        assert_eq!(dialled(&mut route, Some("d")), "d");
        assert_eq!(dialled(&mut route, None), "c");
    }

    #[test]
    fn who_names_itself_is_not_dialled_again_at_once() {
        let mut route = route();
        assert_eq!(dialled(&mut route, Some("a")), "b");
        assert_eq!(dialled(&mut route, Some("x")), "x");
        assert_eq!(dialled(&mut route, Some("x")), "c");
    }
}
