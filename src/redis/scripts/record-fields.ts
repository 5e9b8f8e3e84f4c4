import type { RecordChange } from "../../conversation/ports/store.ts";

/** Field, value, … of what is set; what goes back to its default is in dropsOf. */
export function recordFields(record: RecordChange): readonly (string | number)[] {
  const fields: (string | number)[] = [];
  const put = (name: string, value: string | number | null | undefined) => {
    if (value !== null && value !== undefined) fields.push(name, value);
  };
  put("title", record.title);
  put("instructions", record.instructions);
  put("model", record.model);
  if (record.memory) {
    put("mem", record.memory.strategy);
    put("memTurns", record.memory.maxTurns ?? "");
    put("memTokens", record.memory.maxTokens ?? "");
  }
  put("metadata", record.metadata ? JSON.stringify(record.metadata) : null);
  if (record.archived !== undefined) put("archived", record.archived ? 1 : 0);
  return fields;
}

/** Fields that go back to their default. */
export function dropsOf(change: RecordChange): readonly string[] {
  const drops: string[] = [];
  if (change.title === null) drops.push("title");
  if (change.instructions === null) drops.push("instructions");
  if (change.model === null) drops.push("model");
  if (change.metadata === null) drops.push("metadata");
  if (change.memory === null) drops.push("mem", "memTurns", "memTokens");
  return drops;
}
