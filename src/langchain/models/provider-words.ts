// By what codes and words providers' errors are told apart. Behind each list stand those that are known to use its entries.

export const rateLimitCodes = [
  "rate_limit_exceeded",
  "rate_limit_error",
  "RESOURCE_EXHAUSTED",
  "ThrottlingException",
  "1302",
];
/** llama.cpp, GitHub Models, OpenAI, GLM. */
export const contextCodes = [
  "ContextOverflowError",
  "context_length_exceeded",
  "string_above_max_length",
  "exceed_context_size_error",
  "context_window_exceeded",
  "model_max_prompt_tokens_exceeded",
  "tokens_limit_reached",
  "input_too_long",
  "1261",
];
/** OpenAI, Azure, LangChain, our own wire, DashScope, GLM. */
export const refusalCodes = [
  "content_filter",
  "content_policy_violation",
  "ResponsibleAIPolicyViolation",
  "ModelRefusalError",
  "content_refused",
  "data_inspection_failed",
  "1301",
];
/** OpenAI, LangChain, Anthropic, Moonshot, DashScope, GLM, MiniMax, sub2api. */
export const quotaCodes = [
  "insufficient_quota",
  "InsufficientQuotaError",
  "RateLimitQuotaExhaustedError",
  "billing_error",
  "billing_hard_limit_reached",
  "billing_not_active",
  "insufficient_balance",
  "insufficient_balance_error",
  "INSUFFICIENT_BALANCE",
  "insufficient_credits",
  "exceeded_current_quota_error",
  "Arrearage",
  "1113",
];

/** One request alone is over the limit of a minute (OpenAI, Groq): no later time helps it, a shorter history does. */
export const tooLargeWords = /request too large for/i;
export const contextWords = new RegExp(
  [
    // OpenAI, vLLM, DeepSeek, LM Studio, llama.cpp, SGLang, MiniMax, Ollama
    "context (?:length|window|size|limit)",
    "maximum (?:context|model length|sequence length)",
    // Anthropic, Cohere, Bedrock
    "prompt (?:is )?too (?:long|large)",
    "too many (?:input )?tokens",
    "input is too long",
    // Gemini, Poolside, GLM
    "input (?:token count|length)[^]{0,40}exceeds",
    "exceeds the maximum (?:number of tokens|(?:allowed )?input)",
    // xAI, Copilot
    "maximum prompt length",
    "prompt token count[^]{0,40}exceeds",
    // Together, Text Generation Inference
    "`?inputs`? tokens ?\\+ ?`?max_new_tokens",
    "`?inputs`? must have less than",
    // Mistral, Perplexity, DashScope, Kimi, z.ai, Groq, Cerebras
    "too large for model",
    "length of all messages is too long",
    "range of input length should be",
    "model token limit",
    "tokens in request more than max",
    "max_(?:seq|model)_len",
    "reduce the length of (?:the|your) (?:messages|prompt|input)",
  ].join("|"),
  "i",
);
/** Bedrock's "Too many tokens, please wait" is about the minute and not about the request. */
export const limitWords = /please wait|rate limit|throttl|per (?:minute|hour|day)/i;
export const refusalWords =
  /content (?:management )?polic|flagged|moderation|safety (?:system|filter)|content[ _]filter|inappropriate content|sensitive content/i;
/** Alone they decide: MiniMax says it with 500. */
export const balanceWords = /insufficient (?:account )?(?:balance|credit|fund)/i;
export const quotaWords =
  /insufficient[ _-]?(?:account )?(?:quota|balance|credit|fund)|(?:credit )?balance is too low|out of credits|exceeded your current quota|quota (?:has been |is )?(?:exhausted|exceeded)|arrear|billing/i;
export const retryWords = /retry|try again/i;

export const undiciTimeouts = ["UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT", "UND_ERR_CONNECT_TIMEOUT"];
export const socketCodes = [
  "ECONNREFUSED",
  "ECONNRESET",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EPIPE",
  "UND_ERR_SOCKET",
  "ERR_STREAM_PREMATURE_CLOSE",
];
