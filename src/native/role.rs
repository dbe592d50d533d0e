//! What part a C function has in running Python.
//!
//! Knows CPython's own function names, as a person reading a stack does. Takes a name and whether
//! it is of the interpreter's file; never looks at a version: the names never overlap.

/// What part a C function has in running Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs Python frames: `_PyEval_EvalFrameDefault`.
    Eval,
    /// Part of the one below it: one bytecode instruction of an interpreter that is built of tail
    /// calls (3.14 on, Python/generated_cases.c.h, `_TAIL_CALL_…`).
    Handler,
    /// Only passes calls on between Python and C, or starts the interpreter: says nothing.
    Plumbing,
    /// The interpreter's own code, at work.
    Interpreter,
    /// The interpreter's own code, whose name was stripped: may be any of the above.
    Nameless,
    /// Anything else.
    Foreign,
}

/// Beginnings of names of what only passes calls on (Objects/call.c, Objects/methodobject.c,
/// Objects/descrobject.c, Objects/classobject.c, Objects/typeobject.c, Objects/genobject.c,
/// Python/ceval.c, Python/pythonrun.c, Modules/main.c; 3.8 to 3.15).
const PLUMBING: [&str; 34] = [
    "PyEval_",
    "_PyEval_",
    "PyObject_Call",
    "_PyObject_Call",
    "_PyObject_FastCall",
    "_PyObject_MakeTpCall",
    "_PyObject_Vectorcall",
    "PyObject_Vectorcall",
    "_PyVectorcall_",
    "PyVectorcall_",
    "_PyFunction_",
    "function_code_fastcall",
    "_PyCFunction_",
    "_PyCallMethodDescriptor",
    "PyCFunction_",
    "_PyMethodDef_",
    "_PyMethodDescr_",
    "_PyStack_",
    "cfunction_",
    "method_vectorcall",
    "method_call",
    "object_vacall",
    "vectorcall_",
    "call_function",
    "do_call_core",
    "slot_tp_",
    "slot_am_",
    "wrap_call",
    "gen_send_ex",
    "run_eval_code_obj",
    "run_mod",
    "pymain_",
    "Py_RunMain",
    "Py_BytesMain",
];

impl Role {
    /// The role of a function; of one without a name if `name` is `None`.
    #[must_use]
    pub fn of(name: Option<&str>, in_interpreter: bool) -> Role {
        match name {
            Some("_PyEval_EvalFrameDefault") => Role::Eval,
            Some(name) if name.starts_with("_TAIL_CALL_") => Role::Handler,
            Some(name) if in_interpreter && is_plumbing(name) => Role::Plumbing,
            None if in_interpreter => Role::Nameless,
            _ if in_interpreter => Role::Interpreter,
            _ => Role::Foreign,
        }
    }
}

fn is_plumbing(name: &str) -> bool {
    PLUMBING.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        for (name, in_interpreter, role) in [
            (Some("_PyEval_EvalFrameDefault"), true, Role::Eval),
            // also where it was linked into another program
            (Some("_PyEval_EvalFrameDefault"), false, Role::Eval),
            (Some("_TAIL_CALL_CALL_BUILTIN_O"), true, Role::Handler),
            (Some("_PyEval_Vector"), true, Role::Plumbing),
            (Some("cfunction_vectorcall_O"), true, Role::Plumbing),
            (Some("cfunction_vectorcall_O"), false, Role::Foreign),
            (Some("time_sleep"), true, Role::Interpreter),
            (None, true, Role::Nameless),
            (None, false, Role::Foreign),
            (Some("poll"), false, Role::Foreign),
        ] {
            assert_eq!(Role::of(name, in_interpreter), role, "{name:?}");
        }
    }
}
