//! The status dictionary: what can be said about a shipment.
//!
//! One enum, many dialects: every sink translates from here. The list is the one that logistics
//! standards share (GS1 EPCIS 2.0 business steps, ASC X12 214 segment AT7); each code carries the
//! words a person reads and what that person is expected to do next.
//!
//! The dictionary is wider than the rules: this version raises the codes of [`Code::RAISED`]. The others
//! have their name and their words, so that sinks and readers of events need not change when a rule for
//! them comes; until then alarms about sensors are stored and raise nothing.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What sort of statement a code makes, which decides how it may change later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeKind {
    /// A stage of the journey: verdict, amended or retracted when later data shows better.
    Milestone,
    /// Something wrong with goods, route or data: verdict as well.
    Exception,
    /// Something that was expected and did not come: carries `as_of`, closed, never retracted.
    Expectation,
    /// A forecast: carries `as_of`, replaced, never retracted.
    Estimate,
}

macro_rules! dictionary {
    ($($name:ident $text:literal $kind:ident $title:literal $next:literal;)*) => {
        /// A status code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!("`", $text, "`: ", $title, ".")] $name,)*
        }

        impl Code {
            /// Every code, in the order of the dictionary.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code as it is written, `EX_TEMPERATURE`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it means, for a person.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// What is expected to be done or to happen next.
            #[must_use]
            pub const fn next_action(self) -> &'static str {
                match self { $(Self::$name => $next,)* }
            }

            /// What sort of statement it is.
            #[must_use]
            pub const fn kind(self) -> CodeKind {
                match self { $(Self::$name => CodeKind::$kind,)* }
            }
        }
    };
}

dictionary! {
    ReadyForPickup "READY_FOR_PICKUP" Milestone
        "Ready for pickup" "Send the vehicle to the pickup place";
    Loaded "LOADED" Milestone
        "Loaded" "Wait for departure from the pickup place";
    Unloaded "UNLOADED" Milestone
        "Unloaded" "Check the goods and accept or reject them";
    ArrivedPickup "ARRIVED_PICKUP" Milestone
        "Arrived at the pickup place" "Load the goods";
    PickedUp "PICKED_UP" Milestone
        "Picked up" "Expect the goods in transit; prepare the next stop";
    InTransit "IN_TRANSIT" Milestone
        "In transit" "None; the next stop is informed on arrival";
    ArrivedHub "ARRIVED_HUB" Milestone
        "Arrived at a hub" "Handle or transfer the goods and send them on";
    DepartedHub "DEPARTED_HUB" Milestone
        "Departed from a hub" "Expect the goods at the next stop";
    AtCustoms "AT_CUSTOMS" Milestone
        "At customs" "Have the customs papers at hand";
    CustomsCleared "CUSTOMS_CLEARED" Milestone
        "Cleared by customs" "Expect the goods at the next stop";
    OutForDelivery "OUT_FOR_DELIVERY" Milestone
        "Out for delivery" "Prepare to receive the goods";
    ArrivedDelivery "ARRIVED_DELIVERY" Milestone
        "Arrived at the delivery place" "Unload the goods";
    Delivered "DELIVERED" Milestone
        "Delivered" "Check the goods and accept or reject them";
    PartiallyDelivered "PARTIALLY_DELIVERED" Milestone
        "Partially delivered" "Find the units that were not delivered";
    Accepted "ACCEPTED" Milestone
        "Accepted by the recipient" "None; the shipment is complete";
    Rejected "REJECTED" Milestone
        "Rejected by the recipient" "Arrange the return or disposal of the goods";
    DeliveryFailed "DELIVERY_FAILED" Milestone
        "Delivery failed" "Agree a new delivery with the recipient";
    DepartedDelivery "DEPARTED_DELIVERY" Milestone
        "Departed from the delivery place" "Check that the goods were handed over";
    Returned "RETURNED" Milestone
        "Returned to the pickup place" "Book the goods back in and find out why";
    Temperature "EX_TEMPERATURE" Exception
        "Temperature outside the allowed range"
        "Check the cooling now and keep the goods apart until quality has decided";
    Humidity "EX_HUMIDITY" Exception
        "Humidity outside the allowed range" "Check packaging and ventilation";
    Shock "EX_SHOCK" Exception
        "Shock" "Inspect the goods and the packaging for damage";
    FreeFall "EX_FREE_FALL" Exception
        "Dropped" "Inspect the goods and the packaging for damage";
    Tilt "EX_TILT" Exception
        "Tilted" "Set the goods upright and inspect them";
    Light "EX_LIGHT" Exception
        "Light inside a closed load" "Check whether the load was opened";
    DoorOpen "EX_DOOR_OPEN" Exception
        "Door open" "Close the door, or confirm that opening it was planned";
    RouteDeviation "EX_ROUTE_DEVIATION" Exception
        "Off the planned route" "Call the driver";
    ImprobableJump "EX_IMPROBABLE_JUMP" Exception
        "Position jumped improbably far" "Check whether tracker and goods are still together";
    Separated "EX_SEPARATED" Exception
        "Units of one shipment are apart" "Find the unit that is not with the others";
    Stopped "EX_STOPPED" Exception
        "Stopped outside known places" "Call the driver";
    Dwell "EX_DWELL" Exception
        "At a place for too long" "Ask the place why the goods have not left";
    WrongPlace "EX_WRONG_PLACE" Exception
        "At a place that is not on the plan" "Correct the route or the plan";
    PassThrough "PASS_THROUGH" Exception
        "Passed through a place without stopping" "Check whether the stop was meant to be skipped";
    DataGap "EX_DATA_GAP" Exception
        "Readings are missing" "Check the tracker; judge the goods as unobserved for this time";
    SensorFault "EX_SENSOR_FAULT" Exception
        "A sensor failed" "Replace the tracker or the probe";
    Calibration "EX_CALIBRATION" Exception
        "Calibration overdue" "Have the probe calibrated; its readings may not be accepted";
    Timeline "EX_TIMELINE" Exception
        "Times contradict each other" "Check the tracker's clock";
    Silent "EX_SILENT" Expectation
        "No word from the tracker" "Check the tracker's battery and reception, or call the driver";
    Overdue "EX_OVERDUE" Expectation
        "A milestone is overdue" "Call the carrier";
    Clock "EX_CLOCK" Expectation
        "A tracker's clock is implausible" "Check the tracker";
    StoreDamaged "EX_STORE_DAMAGED" Expectation
        "The gateway's store was damaged and has been salvaged"
        "Check the gateway's disk; look in status for what is missing, and keep the damaged folder";
    Battery "EX_BATTERY" Exception
        "Tracker battery low" "Charge or replace the tracker at the next stop";
    EtaUpdated "ETA_UPDATED" Estimate
        "Arrival estimate changed" "Plan the reception for the new time";
    Approaching "APPROACHING" Estimate
        "Approaching the next stop" "Prepare to receive the goods";
    Delayed "DELAYED" Estimate
        "Expected to be late" "Inform the recipient";
}

/// A text that is no code of the dictionary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no code of the status dictionary")]
pub struct UnknownCode(pub String);

impl Code {
    /// The codes that this version has a rule for, in the order of the dictionary.
    pub const RAISED: &'static [Self] = &[
        Self::ArrivedPickup,
        Self::PickedUp,
        Self::InTransit,
        Self::ArrivedHub,
        Self::DepartedHub,
        Self::AtCustoms,
        Self::CustomsCleared,
        Self::OutForDelivery,
        Self::ArrivedDelivery,
        Self::Delivered,
        Self::DepartedDelivery,
        Self::Temperature,
        Self::Humidity,
        Self::Shock,
        Self::FreeFall,
        Self::Tilt,
        Self::Light,
        Self::DoorOpen,
        Self::DataGap,
        Self::Silent,
        Self::Clock,
        Self::StoreDamaged,
        Self::Battery,
    ];

    /// Whether the code is a stage of the journey.
    #[must_use]
    pub const fn is_milestone(self) -> bool {
        matches!(self.kind(), CodeKind::Milestone)
    }

    /// Whether the statement stands outside the verdict: it carries `as_of` and is never retracted.
    #[must_use]
    pub const fn is_outside_verdict(self) -> bool {
        matches!(self.kind(), CodeKind::Expectation | CodeKind::Estimate)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let found = Self::ALL.iter().find(|code| code.as_str() == text);
        found.copied().ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_parses_back_and_has_words() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert!(!code.title().is_empty() && !code.next_action().is_empty());
        }
        assert_eq!(Code::ALL.len(), 45, "the dictionary has 45 codes");
    }

    #[test]
    fn a_text_outside_the_dictionary_is_refused() {
        assert_eq!(
            "EX_TEMPERATUR".parse::<Code>(),
            Err(UnknownCode("EX_TEMPERATUR".to_owned()))
        );
    }

    #[test]
    fn expectations_and_estimates_stand_outside_the_verdict() {
        assert!(Code::Silent.is_outside_verdict());
        assert!(Code::EtaUpdated.is_outside_verdict());
        assert!(!Code::Battery.is_outside_verdict());
        assert!(Code::Delivered.is_milestone());
    }
}
