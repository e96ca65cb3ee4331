//! What the engine's errors are to the user.

use llctl::exit;

use crate::engine::OpenError;
use crate::supervisor::trouble::Trouble;

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        use crate::store::OpenError as Store;
        let code = match &error {
            OpenError::State { .. } => exit::DAMAGED,
            OpenError::Store {
                error: Store::Damaged(_) | Store::BadSuperblock(_),
                ..
            } => exit::DAMAGED,
            OpenError::Store {
                error: Store::Full, ..
            } => exit::NO_WRITE,
            _ => exit::FAILED,
        };
        let trouble = Self::new(error.to_string()).code(code);
        match error.hint() {
            Some(hint) => trouble.hint(hint),
            None => trouble,
        }
    }
}
