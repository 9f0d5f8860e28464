//! Throttles: what holds, and what an operator wants.

use shardlift_domain::failure::{ErrorCode, Failure};
use shardlift_domain::ids::MigrationId;
use shardlift_domain::migration::{InForce, Limit, ThrottleChange};
use shardlift_domain::spec::{MAX_RATE, Throttle, Window};

use super::WireError;
use crate::v1;
use v1::throttle_request::{Rate, Time};

/// A throttle to the wire.
pub fn throttle_to_wire(throttle: Throttle) -> v1::Throttle {
    let Throttle { rows_per_second, window } = throttle;
    v1::Throttle { rows_per_second, window: window.map(window_to_wire) }
}

/// A throttle from the wire.
pub fn throttle_from_wire(throttle: v1::Throttle) -> Result<Throttle, WireError> {
    let v1::Throttle { rows_per_second, window } = throttle;
    Ok(Throttle { rows_per_second, window: window.map(window_from_wire).transpose()? })
}

fn window_to_wire(window: Window) -> v1::Window {
    v1::Window { from_minute: window.from_minute.into(), to_minute: window.to_minute.into() }
}

fn window_from_wire(window: v1::Window) -> Result<Window, WireError> {
    let minute = |minute: u32| u16::try_from(minute).unwrap_or(u16::MAX);
    Window::new(minute(window.from_minute), minute(window.to_minute)).map_err(|_| WireError::Unknown {
        what: "window",
        value: format!("from minute {} to minute {} of the day", window.from_minute, window.to_minute),
    })
}

/// What holds now, and what the spec says if that is something else.
pub fn in_force_from_wire(
    now: Option<v1::Throttle>,
    in_spec: Option<v1::Throttle>,
) -> Result<Option<InForce>, WireError> {
    let Some(now) = now else { return Ok(None) };
    let in_spec = in_spec.map(throttle_from_wire).transpose()?;
    Ok(Some(InForce { now: throttle_from_wire(now)?, in_spec }))
}

/// A wish to the wire.
pub fn throttle_change_to_wire(id: &MigrationId, change: ThrottleChange) -> v1::ThrottleRequest {
    let rate = change.rows_per_second.map(|rate| match rate {
        Limit::Of(rate) => Rate::RowsPerSecond(rate),
        Limit::Lifted => Rate::NoLimit(v1::NoLimit {}),
        Limit::AsInSpec => Rate::RateAsInSpec(v1::AsInSpec {}),
    });
    let time = change.window.map(|window| match window {
        Limit::Of(window) => Time::Window(window_to_wire(window)),
        Limit::Lifted => Time::Always(v1::NoLimit {}),
        Limit::AsInSpec => Time::WindowAsInSpec(v1::AsInSpec {}),
    });
    v1::ThrottleRequest { id: id.to_string(), rate, time }
}

/// A wish from the wire, if it is one that can be fulfilled.
pub fn throttle_change_from_wire(rate: Option<Rate>, time: Option<Time>) -> Result<ThrottleChange, Failure> {
    let invalid = |message: String, next: &str| Failure::new(ErrorCode::RequestInvalid, message, next);
    let rows_per_second = match rate {
        Some(Rate::RowsPerSecond(rate)) if !(1..=MAX_RATE).contains(&rate) => {
            let message = format!("rows_per_second must be a whole number from 1 to {MAX_RATE}, not {rate}");
            return Err(invalid(message, "to have nothing walked at all, pause the migration"));
        }
        Some(Rate::RowsPerSecond(rate)) => Some(Limit::Of(rate)),
        Some(Rate::NoLimit(_)) => Some(Limit::Lifted),
        Some(Rate::RateAsInSpec(_)) => Some(Limit::AsInSpec),
        None => None,
    };
    let window = match time {
        Some(Time::Window(window)) => Some(Limit::Of(window_from_wire(window).map_err(|error| {
            invalid(error.to_string(), "give two different minutes of the day, 0 to 1439, in UTC")
        })?)),
        Some(Time::Always(_)) => Some(Limit::Lifted),
        Some(Time::WindowAsInSpec(_)) => Some(Limit::AsInSpec),
        None => None,
    };
    if rows_per_second.is_none() && window.is_none() {
        return Err(invalid(
            "nothing is said of the throttle".to_owned(),
            "say what is to change: the rows per second, the window, or that both are as the spec says",
        ));
    }
    Ok(ThrottleChange { rows_per_second, window })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_travels_whole_and_a_senseless_one_is_refused() {
        let id = MigrationId::new("m").expect("a name");
        let window = Window { from_minute: 1320, to_minute: 360 };
        let rates = [None, Some(Limit::Of(7)), Some(Limit::Lifted), Some(Limit::AsInSpec)];
        let windows = [None, Some(Limit::Of(window)), Some(Limit::Lifted), Some(Limit::AsInSpec)];
        for rows_per_second in rates {
            for window in windows {
                let change = ThrottleChange { rows_per_second, window };
                let v1::ThrottleRequest { rate, time, .. } = throttle_change_to_wire(&id, change);
                let got = throttle_change_from_wire(rate, time);
                if (rows_per_second, window) == (None, None) {
                    assert_eq!(got.expect_err("nothing is said").code, ErrorCode::RequestInvalid);
                } else {
                    assert_eq!(got, Ok(change));
                }
            }
        }
        for rate in [0, MAX_RATE + 1, u32::MAX] {
            assert!(throttle_change_from_wire(Some(Rate::RowsPerSecond(rate)), None).is_err(), "{rate}");
        }
        for (from_minute, to_minute) in [(1440, 0), (5, 5), (0, 1440), (0, 1441), (70_000, 3)] {
            let window = v1::Window { from_minute, to_minute };
            assert!(throttle_change_from_wire(None, Some(Time::Window(window))).is_err(), "{window:?}");
        }
    }

    #[test]
    fn what_holds_travels_whole() {
        let window = Some(Window { from_minute: 1320, to_minute: 360 });
        for now in [Throttle::default(), Throttle { rows_per_second: Some(5), window }] {
            let sent = in_force_from_wire(Some(throttle_to_wire(now)), Some(throttle_to_wire(now)));
            assert_eq!(sent, Ok(Some(InForce { now, in_spec: Some(now) })));
        }
        assert_eq!(in_force_from_wire(None, None), Ok(None));
    }
}
