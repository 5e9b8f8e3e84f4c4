import { z } from "zod";
import { isSetting, type Table } from "./setting.ts";

type Checks = Readonly<Record<string, z.ZodType>>;

/** Checks the form of an option, which no compiler checks in JavaScript. `must`: "must be …". */
export function required(must: string, holds: (value: unknown) => boolean): z.ZodType {
  return z.custom(holds, must);
}

export function optional(must: string, holds: (value: unknown) => boolean): z.ZodType {
  return required(must, holds).optional();
}

/** Of an option that has options of its own. */
export function group(checks: Checks): z.ZodType {
  return z.strictObject(checks).optional();
}

/** One check for each option of a table. */
export function checksOf(table: Table): Checks {
  const checkOf = (entry: Table[string]): z.ZodType =>
    isSetting(entry) ? optional(entry.form.must, entry.form.holds) : group(checksOf(entry));
  return Object.fromEntries(Object.entries(table).map(([name, entry]) => [name, checkOf(entry)] as const));
}

/** What is wrong with options, each mistake with the name of its option. */
export function optionProblems(options: unknown, checks: Checks): readonly string[] {
  const checked = z.strictObject(checks, "must be an object; redis is the one option that is needed");
  const { error } = checked.safeParse(options);
  return (error?.issues ?? []).flatMap((issue) => {
    const at = issue.path.join(".");
    if (issue.code !== "unrecognized_keys") return [`${at === "" ? "the options" : at} ${issue.message}`];
    return issue.keys.map((key) => `${[...issue.path, key].join(".")} is no option`);
  });
}
