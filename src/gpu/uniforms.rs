//! Copies of uniforms for software adapters.
//!
//! After a kernel's first branch or loop llvmpipe reads a uniform like any other memory, one invocation after the
//! other; before it, at once. So on such an adapter each kernel first copies its parameters into variables of its own.

use naga::valid::ModuleInfo;
use naga::{AddressSpace, Arena, Block, Expression, GlobalVariable, Handle, Range, Span, Statement, TypeInner};

/// Makes every entry point copy the uniforms that it uses, and all functions read the copies. Uniforms with arrays stay
/// as they are: an array that is indexed by a variable would be in memory in any case.
pub(super) fn copy(module: &mut naga::Module, info: &ModuleInfo) {
    let uniforms: Vec<Handle<GlobalVariable>> = module
        .global_variables
        .iter()
        .filter(|(_, global)| global.space == AddressSpace::Uniform && !has_array(module, global.ty))
        .map(|(handle, _)| handle)
        .collect();
    for uniform in uniforms {
        let global = &module.global_variables[uniform];
        let own = GlobalVariable { name: None, space: AddressSpace::Private, binding: None, ..global.clone() };
        let own = module.global_variables.append(own, Span::UNDEFINED);
        let functions = module.functions.iter_mut().map(|(_, function)| function);
        for function in functions.chain(module.entry_points.iter_mut().map(|entry| &mut entry.function)) {
            for (_, expression) in function.expressions.iter_mut() {
                if *expression == Expression::GlobalVariable(uniform) {
                    *expression = Expression::GlobalVariable(own);
                }
            }
        }
        let reading = module.entry_points.iter_mut().enumerate();
        for (_, entry) in reading.filter(|(at, _)| !info.get_entry_point(*at)[uniform].is_empty()) {
            let (expressions, body) = (&mut entry.function.expressions, &mut entry.function.body);
            body.splice(0..0, assignment(expressions, own, uniform));
        }
    }
}

fn has_array(module: &naga::Module, ty: Handle<naga::Type>) -> bool {
    match &module.types[ty].inner {
        TypeInner::Struct { members, .. } => members.iter().any(|member| has_array(module, member.ty)),
        inner => matches!(inner, TypeInner::Array { .. }),
    }
}

/// `to = from`.
fn assignment(expressions: &mut Arena<Expression>, to: Handle<GlobalVariable>, from: Handle<GlobalVariable>) -> Block {
    let mut append = |expression| expressions.append(expression, Span::UNDEFINED);
    let pointer = append(Expression::GlobalVariable(to));
    let uniform = append(Expression::GlobalVariable(from));
    let value = append(Expression::Load { pointer: uniform });
    let emit = Statement::Emit(Range::new_from_bounds(value, value));
    Block::from_vec(vec![emit, Statement::Store { pointer, value }])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use naga::valid::{Capabilities, ValidationFlags, Validator};

    use super::super::kernel::{Binding, reflect};
    use super::*;

    const WGSL: &str = "
        struct Place { at: u32, @size(12) stride: u32 }
        struct Params { @size(16) n: u32, place: Place }
        struct Table { at: array<vec4<u32>, 4> }
        override SIZE: u32 = 4u;
        @group(0) @binding(0) var<uniform> p: Params;
        @group(0) @binding(1) var<uniform> table: Table;
        @group(0) @binding(2) var<storage, read_write> y: array<u32>;
        fn stride() -> u32 { return p.place.stride; }
        fn n() -> u32 { return p.n * stride(); }
        @compute @workgroup_size(SIZE) fn through_functions() { for (var i = 0u; i < n(); i++) { y[i] = i; } }
        @compute @workgroup_size(1) fn after_a_branch() { if y[0] == 1u { return; } y[0] = table.at[p.n].x; }
        @compute @workgroup_size(1) fn without() { y[0] = 1u; }
    ";

    fn validated(module: &naga::Module) -> ModuleInfo {
        Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(module).expect("a valid module")
    }

    #[test]
    fn kernels_read_copies_of_the_parameters_that_they_use() {
        let mut module = naga::front::wgsl::parse_str(WGSL).unwrap();
        let before = validated(&module);
        let bindings = reflect(&module, &before);
        copy(&mut module, &before);
        let after = reflect(&module, &validated(&module));
        let names = |of: &HashMap<String, Vec<Binding>>, entry: &str| -> Vec<String> {
            of[entry].iter().map(|binding| binding.name.clone()).collect()
        };
        let globals: Vec<_> = module.global_variables.iter().map(|(handle, _)| handle).collect();
        let [p, _, _, own] = globals[..] else { panic!("one copy, as the table has an array") };
        for entry in &module.entry_points {
            let name = entry.name.as_str();
            // Layouts of bind groups are those of the bindings that an entry point uses.
            assert_eq!(names(&after, name), names(&bindings, name), "{name}");
            let is =
                |e: Handle<Expression>, global| entry.function.expressions[e] == Expression::GlobalVariable(global);
            let first = match entry.function.body[..] {
                [Statement::Emit(_), Statement::Store { pointer, .. }, ..] => is(pointer, own),
                _ => false,
            };
            let reads = entry.function.expressions.iter().filter(|(e, _)| is(*e, p)).count();
            let uses = name != "without";
            assert_eq!((first, reads), (uses, usize::from(uses)), "{name}: begins with the only read");
        }
        let in_functions = module.functions.iter().flat_map(|(_, function)| function.expressions.iter());
        assert!(in_functions.into_iter().all(|(_, e)| *e != Expression::GlobalVariable(p)));
    }
}
