import { authOptions, authSettings, type AuthOptions } from "./auth.ts";
import { isLoopback } from "./forms.ts";
import { limits, limitsOfProcess, shareOf } from "./limits.ts";
import { redisConfig, redisSettings, type RedisConfig } from "./redis.ts";
import { isSetting, settingsOf, withDefaults, type Given, type Setting, type Table } from "./setting.ts";
import { commandSettings, optionSettings, type CommandSettings, type OptionSettings } from "./table.ts";
import { isTracingOff, tracingConfig, tracingSettings, tracingSwitches, type TracingConfig } from "./tracing.ts";

/** Everything that can be configured, checked, and never changed. Nothing but main.ts reads the environment. */
export interface Config extends CommandSettings, OptionSettings {
  readonly auth: AuthOptions;
  readonly redis: RedisConfig;
  /** null: there is no collector. */
  readonly tracing: TracingConfig | null;
}

export interface ConfigProblem {
  readonly variable: string;
  readonly message: string;
}

/** All mistakes at once, in the order of the tables: not in that in which files happened to be read. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const place = ({ variable }: ConfigProblem) => variables.findIndex((one) => one.variable === variable);
    const inOrder = problems.toSorted((a, b) => place(a) - place(b));
    const lines = inOrder.map(({ variable, message }) => `  ${variable}: ${message}`);
    super(["The configuration has mistakes:", ...lines].join("\n"));
    this.problems = inOrder;
  }
}

const tables: readonly { readonly table: Table; readonly isOption?: boolean }[] = [
  { table: commandSettings },
  { table: authSettings },
  { table: redisSettings },
  { table: optionSettings, isOption: true },
  { table: tracingSettings },
  { table: tracingSwitches },
];

/** All variables, for --help and docs/configuration.md. `option`: its name among createGateway's; null: it has none. */
export const variables = tables.flatMap(({ table, isOption = false }) =>
  settingsOf(table).map(({ option, setting }) => ({ ...setting, option: isOption ? option : null })),
);

export type Environment = Readonly<Record<string, string | undefined>>;
type Tell = (variable: string, message: string) => void;

/**
 * An empty variable counts as left out.
 * @throws {ConfigError} with every mistake
 */
export function loadConfig(env: Environment): Config {
  const problems: ConfigProblem[] = [];
  const tell: Tell = (variable, message) => void problems.push({ variable, message });
  const command = withDefaults(commandSettings, read(commandSettings, env, tell), nothingKnown);
  const auth = withDefaults(authSettings, read(authSettings, env, tell), nothingKnown);
  const redis = withDefaults(redisSettings, read(redisSettings, env, tell), nothingKnown);
  const given = read(optionSettings, env, tell);

  const { apiKey = null, baseUrl = null } = given.openai ?? {};
  const hasOpenai = apiKey !== null || baseUrl !== null;
  const model = given.model ?? (hasOpenai ? "openai:gpt-4o-mini" : "offline");
  const known = { authenticates: auth.kind !== "none", production: given.production ?? false, model };
  const options = withDefaults(optionSettings, given, known);
  const models = [...new Set([model, ...options.models])];
  if (models.some((name) => name.startsWith("openai:")) && !hasOpenai && !isGiven(env, "OPENAI_BASE_URL")) {
    tell("OPENAI_API_KEY", "is needed by the model openai:… (or OPENAI_BASE_URL, for a server without keys)");
  }
  const { mode, file } = options.persistedOperations;
  if (mode === "only" && file === null) {
    tell("PERSISTED_OPERATIONS_FILE", "is needed with PERSISTED_OPERATIONS=only: nothing would be answered");
  }
  if (mode === "off" && file !== null)
    tell("PERSISTED_OPERATIONS_FILE", "cannot stand beside PERSISTED_OPERATIONS=off");
  if (mode === "only" && given.graphiql === true) {
    tell("GRAPHIQL", "cannot be on with PERSISTED_OPERATIONS=only: what is typed into it is not on the list");
  }
  if (mode === "only" && given.console === true) {
    tell("CONSOLE", "cannot be on with PERSISTED_OPERATIONS=only: its operations are not on the list");
  }
  const shares = shareOf(options, command.workers);
  for (const name of limitsOfProcess) {
    if (shares[name] !== 0) continue;
    tell(
      limits[name].variable,
      `must be at least ${command.workers} with WORKERS=${command.workers}: each has a share`,
    );
  }
  const ways = ["REDIS_URL", "REDIS_SENTINELS", "REDIS_CLUSTER_NODES"].filter((name) => isGiven(env, name));
  const config: Config = {
    ...command,
    ...options,
    models,
    // Four defaults by what createGateway is not told: where it listens, and that nothing else may be typed.
    metrics: given.metrics ?? (isLoopback(command.host) || options.metricsToken !== null),
    graphiql: given.graphiql ?? (options.graphiql && mode !== "only"),
    console: given.console ?? (options.console && mode !== "only"),
    agUi: given.agUi ?? (options.agUi && mode !== "only"),
    auth: authOptions(auth, { ...command, ...options }, tell),
    redis: redisConfig(redis, ways, tell),
    tracing: readTracing(env, tell),
  };
  if (problems.length > 0) throw new ConfigError(problems);
  return config;
}

/** Of settings whose defaults depend on nothing. */
const nothingKnown = { authenticates: false, production: false, model: "" };

function readTracing(env: Environment, tell: Tell): TracingConfig | null {
  const switches = withDefaults(tracingSwitches, read(tracingSwitches, env, tell), nothingKnown);
  if (isTracingOff(switches)) return null;
  return tracingConfig(withDefaults(tracingSettings, read(tracingSettings, env, tell), nothingKnown), tell);
}

function isGiven(env: Environment, variable: string): boolean {
  return (env[variable]?.trim() ?? "") !== "";
}

/** What is given, and right. What is wrong is told, and counts as left out. */
function read<T extends Table>(table: T, env: Environment, tell: Tell): Given<T> {
  const values: Record<string, unknown> = {};
  for (const [name, entry] of Object.entries(table)) {
    const value = isSetting(entry) ? readOne(entry, env, tell) : read(entry, env, tell);
    if (value !== undefined) values[name] = value;
  }
  return values as Given<T>; // by its own names
}

function readOne<Value>({ variable, form }: Setting<Value>, env: Environment, tell: Tell): Value | undefined {
  if (!isGiven(env, variable)) return undefined;
  const { success, data, error } = form.text.safeParse(env[variable]?.trim());
  if (success) return data;
  tell(variable, error.issues[0]?.message ?? "is not valid");
  return undefined;
}
