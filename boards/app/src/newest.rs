//! The newest feature as a message, sent from where the learner has it: a board keeps no copy of it.

use nestling::learner::Learner;
use nestling::sample::Micros;
use serde::ser::{Error, Serialize, SerializeSeq, SerializeStruct, Serializer};

/// On the link the same as `ToHost::Feature` of [`Learner::newest_feature`].
pub struct Newest<'a, 'm> {
    pub learner: &'a Learner<'m>,
    pub time: Micros,
}

impl Serialize for Newest<'_, '_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_newtype_variant("ToHost", 2, "Feature", &Fields(self))
    }
}

struct Fields<'a, 'm>(&'a Newest<'a, 'm>);

impl Serialize for Fields<'_, '_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Newest { learner, time } = self.0;
        let mut fields = to.serialize_struct("Feature", 4)?;
        fields.serialize_field("time", &time.0)?;
        fields.serialize_field("encoder", &learner.version().0)?;
        fields.serialize_field("blocks", &Blocks(learner))?;
        fields.serialize_field("values", &Mantissas(learner))?;
        fields.end()
    }
}

struct Blocks<'a, 'm>(&'a Learner<'m>);

impl Serialize for Blocks<'_, '_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut blocks = to.serialize_seq(Some(self.0.newest_exponents().count()))?;
        for (len, exponent) in self.0.newest_exponents() {
            blocks.serialize_element(&(len as u32, exponent))?;
        }
        blocks.end()
    }
}

struct Mantissas<'a, 'm>(&'a Learner<'m>);

impl Serialize for Mantissas<'_, '_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let len = self.0.newest_exponents().map(|(len, _)| len).sum();
        let mut mantissas = to.serialize_seq(Some(len))?;
        let (mut sent, mut failure) = (0, None);
        self.0.newest_feature(|some| {
            for mantissa in some {
                sent += 1;
                failure = failure.take().or(mantissas.serialize_element(mantissa).err());
            }
        });
        match failure {
            Some(failure) => Err(failure),
            None if sent < len => Err(S::Error::custom("the feature is shorter than its blocks")),
            None => mantissas.end(),
        }
    }
}
