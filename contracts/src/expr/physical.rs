//! How a compiled expression runs: a DataFusion physical expression per node.
//!
//! DataFusion's own nodes do columns, literals, `and`, `or`, `not`, `case`, `in` and `like`.
//! Everything that can fail is a [`Call`] of a [`Kernel`] of ours, and kernels are total: what has
//! no result is null in its row. [`Program::run_total`] is the net below that: should a node fail
//! for another reason, the batch is halved until the failing rows stand alone, and they are null.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Datum, PrimitiveArray,
    PrimitiveBuilder, RecordBatch, RecordBatchOptions, StringArray, StringBuilder, new_null_array,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Literal;

pub(super) type Result<T> = std::result::Result<T, DataFusionError>;

/// A node of the compiled tree.
pub(super) type Node = Arc<dyn PhysicalExpr>;

/// Longest text in bytes that a function may build. Without a bound, a contract of a few lines
/// could turn a small event into gigabytes (nested `replace` and `concat`).
pub(super) const MAX_TEXT_BYTES: usize = 64 * 1024;

/// An argument of a kernel: a column, or one value that stands for all rows.
pub(super) struct Operand {
    array: ArrayRef,
    scalar: bool,
}

impl Datum for Operand {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array.as_ref(), self.scalar)
    }
}

impl Operand {
    /// A column with a value per row.
    pub(super) fn full(array: ArrayRef) -> Self {
        Self { array, scalar: false }
    }

    /// The values as a full column of `rows`.
    pub(super) fn column(&self, rows: usize) -> Result<ArrayRef> {
        if self.scalar && rows != 1 {
            ScalarValue::try_from_array(&self.array, 0)?.to_array_of_size(rows)
        } else {
            Ok(Arc::clone(&self.array))
        }
    }

    pub(super) fn primitive<T: ArrowPrimitiveType>(&self) -> Values<'_, PrimitiveArray<T>> {
        self.values(self.array.as_primitive::<T>())
    }

    pub(super) fn text(&self) -> Values<'_, StringArray> {
        self.values(self.array.as_string::<i32>())
    }

    pub(super) fn bools(&self) -> Values<'_, BooleanArray> {
        self.values(self.array.as_boolean())
    }

    fn values<'a, A>(&self, array: &'a A) -> Values<'a, A> {
        Values { array, scalar: self.scalar }
    }
}

/// Typed access to an operand by row.
pub(super) struct Values<'a, A> {
    pub(super) array: &'a A,
    pub(super) scalar: bool,
}

impl<A> Values<'_, A> {
    fn index(&self, row: usize) -> usize {
        if self.scalar { 0 } else { row }
    }
}

impl<T: ArrowPrimitiveType> Values<'_, PrimitiveArray<T>> {
    pub(super) fn get(&self, row: usize) -> Option<T::Native> {
        let i = self.index(row);
        self.array.is_valid(i).then(|| self.array.value(i))
    }
}

impl<'a> Values<'a, StringArray> {
    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        let i = self.index(row);
        self.array.is_valid(i).then(|| self.array.value(i))
    }
}

impl Values<'_, BooleanArray> {
    pub(super) fn get(&self, row: usize) -> Option<bool> {
        let i = self.index(row);
        self.array.is_valid(i).then(|| self.array.value(i))
    }
}

/// What a [`Call`] does with its arguments, for so many rows. A row without a result is null; an
/// error is only for what no row is to blame for (a column past Arrow's limits).
pub(super) type Kernel = Arc<dyn Fn(&[Operand], usize) -> Result<ArrayRef> + Send + Sync>;

/// A kernel applied to arguments.
pub(super) struct Call {
    name: &'static str,
    args: Vec<Node>,
    kernel: Kernel,
    ty: DataType,
}

impl Call {
    /// The node; a literal when all arguments are literals.
    pub(super) fn node(
        name: &'static str,
        args: Vec<Node>,
        ty: DataType,
        kernel: impl Fn(&[Operand], usize) -> Result<ArrayRef> + Send + Sync + 'static,
    ) -> Node {
        fold(Arc::new(Self { name, args, kernel: Arc::new(kernel), ty }))
    }
}

/// Replaces a node whose children are all literals by its value.
pub(super) fn fold(node: Node) -> Node {
    let children = node.children();
    if children.is_empty() || !children.iter().all(|child| literal(child).is_some()) {
        return node;
    }
    let one_row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(1)),
    );
    let value = one_row
        .map_err(DataFusionError::from)
        .and_then(|batch| node.evaluate(&batch))
        .and_then(|value| match value {
            ColumnarValue::Scalar(value) => Ok(value),
            ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
        });
    match value {
        Ok(value) => Arc::new(Literal::new(value)),
        // Whatever failed fails again, row by row, when it is evaluated.
        Err(_) => node,
    }
}

/// The value of a literal node.
pub(super) fn literal(node: &Node) -> Option<&ScalarValue> {
    node.as_any().downcast_ref::<Literal>().map(Literal::value)
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (i, arg) in self.args.iter().enumerate() {
            write!(f, "{}{arg}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str(")")
    }
}

// Two calls are the same when they share kernel and arguments: a kernel may hold state (a regular
// expression, the program of a list function), so its name alone does not identify it.
impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && Arc::ptr_eq(&self.kernel, &other.kernel)
            && self.args == other.args
    }
}

impl Eq for Call {}

impl Hash for Call {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.args.hash(state);
    }
}

impl PhysicalExpr for Call {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn data_type(&self, _schema: &Schema) -> Result<DataType> {
        Ok(self.ty.clone())
    }

    fn nullable(&self, _schema: &Schema) -> Result<bool> {
        Ok(true)
    }

    fn return_field(&self, _schema: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(arrow::datatypes::Field::new(self.name, self.ty.clone(), true)))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let mut all_scalar = true;
        let operands = self
            .args
            .iter()
            .map(|arg| {
                Ok(match arg.evaluate(batch)? {
                    ColumnarValue::Array(array) => {
                        all_scalar = false;
                        Operand::full(array)
                    }
                    ColumnarValue::Scalar(value) => {
                        Operand { array: value.to_array_of_size(1)?, scalar: true }
                    }
                })
            })
            .collect::<Result<Vec<_>>>()?;
        if all_scalar {
            let value = (self.kernel)(&operands, 1)?;
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&value, 0)?));
        }
        Ok(ColumnarValue::Array((self.kernel)(&operands, batch.num_rows())?))
    }

    fn children(&self) -> Vec<&Node> {
        self.args.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, args: Vec<Node>) -> Result<Node> {
        Ok(Arc::new(Self {
            name: self.name,
            args,
            kernel: Arc::clone(&self.kernel),
            ty: self.ty.clone(),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A compiled tree with the columns that it reads.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) root: Node,
    pub(super) schema: SchemaRef,
    pub(super) ty: DataType,
}

impl Program {
    /// One value per row. `columns` stand in the order of the schema.
    pub(super) fn run(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<ArrayRef> {
        let batch = RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &RecordBatchOptions::new().with_row_count(Some(rows)),
        )?;
        self.root.evaluate(&batch)?.into_array(rows)
    }

    /// Like [`Self::run`], but a failing row is null and touches no other row.
    pub(super) fn run_total(&self, columns: Vec<ArrayRef>, rows: usize) -> ArrayRef {
        if let Ok(values) = self.run(columns.clone(), rows) {
            return values;
        }
        if rows <= 1 {
            return new_null_array(&self.ty, rows);
        }
        let half = |from: usize, length: usize| {
            let columns = columns.iter().map(|c| c.slice(from, length)).collect();
            self.run_total(columns, length)
        };
        let middle = rows / 2;
        let (first, second) = (half(0, middle), half(middle, rows - middle));
        // Joining fails only when the values together are past what one Arrow column can hold.
        concat(&[&first, &second]).unwrap_or_else(|_| new_null_array(&self.ty, rows))
    }
}

/// Applies `f` to each value. `ty` is the exact result type (precision and scale).
pub(super) fn map<A, O>(
    a: &Operand,
    ty: &DataType,
    f: impl Fn(A::Native) -> Option<O::Native>,
) -> Result<ArrayRef>
where
    A: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let values: PrimitiveArray<O> = a.primitive::<A>().array.unary_opt(f);
    Ok(Arc::new(values.with_data_type(ty.clone())))
}

/// Applies `f` to each pair of values; null when either is.
pub(super) fn map2<A, B, O>(
    a: &Operand,
    b: &Operand,
    rows: usize,
    ty: &DataType,
    f: impl Fn(A::Native, B::Native) -> Option<O::Native>,
) -> Result<ArrayRef>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    O: ArrowPrimitiveType,
{
    let (left, right) = (a.primitive::<A>(), b.primitive::<B>());
    let values: PrimitiveArray<O> = match (a.scalar, b.scalar) {
        (false, true) => match right.get(0) {
            Some(right) => left.array.unary_opt(|left| f(left, right)),
            None => return Ok(new_null_array(ty, rows)),
        },
        (true, false) => match left.get(0) {
            Some(left) => right.array.unary_opt(|right| f(left, right)),
            None => return Ok(new_null_array(ty, rows)),
        },
        _ => {
            let mut builder = PrimitiveBuilder::<O>::with_capacity(rows);
            for row in 0..rows {
                builder.append_option(match (left.get(row), right.get(row)) {
                    (Some(left), Some(right)) => f(left, right),
                    _ => None,
                });
            }
            builder.finish()
        }
    };
    Ok(Arc::new(values.with_data_type(ty.clone())))
}

/// Builds a primitive column row by row.
pub(super) fn rows_of<O: ArrowPrimitiveType>(
    rows: usize,
    ty: &DataType,
    f: impl Fn(usize) -> Option<O::Native>,
) -> Result<ArrayRef> {
    let values: PrimitiveArray<O> = (0..rows).map(f).collect();
    Ok(Arc::new(values.with_data_type(ty.clone())))
}

/// Builds a boolean column row by row.
pub(super) fn bool_rows(rows: usize, f: impl Fn(usize) -> Option<bool>) -> Result<ArrayRef> {
    Ok(Arc::new((0..rows).map(f).collect::<BooleanArray>()))
}

/// Builds a text column row by row.
pub(super) fn text_rows<T: AsRef<str>>(
    rows: usize,
    f: impl Fn(usize) -> Option<T>,
) -> Result<ArrayRef> {
    let mut builder = StringBuilder::with_capacity(rows, rows * 8);
    let mut bytes = 0_usize;
    for row in 0..rows {
        let value = f(row);
        bytes += value.as_ref().map_or(0, |text| text.as_ref().len());
        // The builder would panic past the offsets of an Arrow text column.
        if i32::try_from(bytes).is_err() {
            return Err(DataFusionError::ResourcesExhausted(
                "a text column of more than 2 GiB".to_owned(),
            ));
        }
        builder.append_option(value);
    }
    Ok(Arc::new(builder.finish()))
}
