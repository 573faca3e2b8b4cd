//! Random sequences of calls on DynamoDB and on the model.

use proptest::prelude::*;

use super::{Tables, config, in_parts};
use crate::differential::{compare_with_operators, op_of_operators};

proptest! {
    // Each case has a table of its own, and each call goes through an emulator.
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn dynamodb_answers_as_the_model_does(ops in prop::collection::vec(op_of_operators(), 1..70)) {
        compare_with_operators(&Tables::new(config), &ops);
    }
    #[test]
    fn dynamodb_answers_as_the_model_does_where_scopes_are_cut(ops in prop::collection::vec(op_of_operators(), 1..70)) {
        compare_with_operators(&Tables::new(in_parts), &ops);
    }
}
