import { isAbstractType, isCompositeType, isEnumType, isInputObjectType, getNamedType, isUnionType } from "graphql";
import type { GraphQLArgument, GraphQLCompositeType, GraphQLField, GraphQLSchema } from "graphql";
import fc from "fast-check";

/** Draws values, as fc.gen() gives it. */
type Draw = fc.GeneratorValue;

/** What arguments and variables are drawn from, by the argument's name. */
export type Pools = Readonly<Record<string, readonly unknown[]>>;

export interface RandomQuery {
  readonly text: string;
  readonly variables: Readonly<Record<string, unknown>>;
}

const mostDepth = 6;

/**
 * A query of this schema, most often a valid one: aliases, fields that are selected twice, inline and named fragments on
 * types that fit or don't, @skip and @include by literals and variables, arguments by literals and variables.
 */
export function randomQuery(draw: Draw, schema: GraphQLSchema, pools: Pools): RandomQuery {
  const root = schema.getQueryType();
  if (!root) throw new Error("There is nothing to query.");
  return new Writer(draw, schema, pools).query(root);
}

class Writer {
  readonly #draw: Draw;
  readonly #schema: GraphQLSchema;
  readonly #pools: Pools;
  readonly #fragments: string[] = [];
  readonly #declared: string[] = [];
  readonly #variables: Record<string, unknown> = {};
  #names = 0;

  constructor(draw: Draw, schema: GraphQLSchema, pools: Pools) {
    this.#draw = draw;
    this.#schema = schema;
    this.#pools = pools;
  }

  query(root: GraphQLCompositeType): RandomQuery {
    const selection = this.#selection(root, 0);
    const declared = this.#declared.length === 0 ? "" : `(${this.#declared.join(", ")})`;
    const text = [`query Q${declared} ${selection}`, ...this.#fragments].join("\n");
    return { text, variables: this.#variables };
  }

  /** By its number: fast-check compares what a draw is given, and a schema refers to itself. */
  #one<Value>(values: readonly Value[]): Value {
    const value = values[this.#draw(fc.nat, values.length - 1)];
    if (value === undefined) throw new RangeError("There is nothing to draw from.");
    return value;
  }

  #chance(percent: number): boolean {
    return this.#draw(fc.nat, 99) >= 100 - percent;
  }

  #name(): string {
    return `n${++this.#names}`;
  }

  #selection(type: GraphQLCompositeType, depth: number): string {
    const count = this.#draw(fc.integer, { min: 1, max: 4 });
    const parts = Array.from({ length: count }, () => this.#part(type, depth));
    return `{ ${[...parts, this.#chance(20) ? "__typename" : ""].join(" ")} }`;
  }

  #part(type: GraphQLCompositeType, depth: number): string {
    if (this.#chance(15) && depth < mostDepth) return this.#fragment(type, depth);
    if (isUnionType(type)) return isAbstractType(type) && this.#chance(70) ? this.#fragment(type, depth) : "__typename";
    const fields = Object.values(type.getFields()).filter((field) => depth < mostDepth || !leads(field));
    return fields.length === 0 ? "__typename" : this.#field(this.#one(fields), depth);
  }

  #fragment(type: GraphQLCompositeType, depth: number): string {
    const possible = isAbstractType(type) ? this.#schema.getPossibleTypes(type) : [type];
    const on = this.#one<GraphQLCompositeType>([...possible, type]);
    const selection = this.#selection(on, depth + 1);
    if (this.#chance(50)) return `... ${this.#chance(20) ? "" : `on ${on.name}`} ${this.#directive()} ${selection}`;
    const name = this.#name();
    this.#fragments.push(`fragment ${name} on ${on.name} ${selection}`);
    const spread = `...${name} ${this.#directive()}`;
    return this.#chance(20) ? `${spread} ${spread}` : spread;
  }

  #field(field: GraphQLField<unknown, unknown>, depth: number): string {
    const args = field.args.flatMap((argument) => this.#argument(argument));
    // Two of one name must be the same in all that they ask for.
    const alias = field.args.length > 0 || this.#chance(30) ? `${this.#name()}: ` : "";
    const type = getNamedType(field.type);
    const below = isCompositeType(type) ? ` ${this.#selection(type, depth + 1)}` : "";
    return `${alias}${field.name}${args.length === 0 ? "" : `(${args.join(", ")})`} ${this.#directive()}${below}`;
  }

  #directive(): string {
    if (!this.#chance(7)) return "";
    const condition = this.#chance(50) ? String(this.#chance(50)) : this.#variable("Boolean!", this.#chance(50));
    return `@${this.#one(["skip", "include"])}(if: ${condition})`;
  }

  #argument({ name, type }: GraphQLArgument): readonly string[] {
    const named = getNamedType(type);
    const pool = this.#pools[name];
    const needed = String(type).endsWith("!");
    if (pool === undefined || isEnumType(named) || isInputObjectType(named)) return [];
    if (!needed && this.#chance(60)) return [];
    const value = this.#one(pool);
    // A variable that may be null is let in where it has a default, and found out in the execution.
    if (needed && this.#chance(10)) {
      return [`${name}: ${this.#variable(`${String(type).slice(0, -1)} = ${JSON.stringify(value)}`, null)}`];
    }
    return [`${name}: ${this.#chance(50) ? JSON.stringify(value) : this.#variable(String(type), value)}`];
  }

  #variable(type: string, value: unknown): string {
    const name = this.#name();
    this.#declared.push(`$${name}: ${type}`);
    this.#variables[name] = value;
    return `$${name}`;
  }
}

function leads(field: GraphQLField<unknown, unknown>): boolean {
  return isCompositeType(getNamedType(field.type));
}
