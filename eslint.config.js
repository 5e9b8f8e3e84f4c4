import js from "@eslint/js";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

export default defineConfig(
  {
    ignores: [
      ...["**/dist", "coverage", "**/node_modules", "test/clients/generated"],
      ...["examples/*/.next", "examples/*/next-env.d.ts", "examples/*/src/__generated__"],
    ],
  },
  js.configs.recommended,
  {
    files: ["**/*.ts", "**/*.tsx"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true } },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/no-non-null-assertion": "error",
      // LangChain's memory takes any history by its shape; its classes do not extend one another.
      "@typescript-eslint/no-unsafe-class-instance-assignment": "off",
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
    },
  },
  {
    // Other people's wirings as they come: Yoga's getEnveloped, Redis event targets and Express are any all over, and a
    // variable that a callback sets looks to the checker as if it never was.
    files: ["bench/**/*.ts"],
    rules: {
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/no-unsafe-return": "off",
      "@typescript-eslint/no-unsafe-member-access": "off",
      "@typescript-eslint/no-unnecessary-condition": "off",
      "@typescript-eslint/no-meaningless-void-operator": "off",
    },
  },
  {
    files: ["test/**/*.ts"],
    ignores: ["test/support/store/property.ts"],
    rules: {
      // What a fixture needs is read off its first parameter: nothing, here.
      "no-empty-pattern": ["error", { allowObjectPatternsAsParameters: true }],
      "no-restricted-properties": [
        "error",
        { object: "fc", property: "assert", message: "Use checkProperty() of test/support/store/property.ts." },
        { object: "vi", property: "waitFor", message: "It gives up after a second. Use expect.poll()." },
      ],
    },
  },
  {
    // Their packages are installed by `npm run examples` alone, whose builds check the types.
    files: ["examples/**/*.ts", "examples/**/*.tsx"],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: { parserOptions: { projectService: false } },
    // As it is written everywhere: createRoot(document.getElementById("app")!).
    rules: { "@typescript-eslint/no-non-null-assertion": "off" },
  },
  {
    files: ["examples/**/*.{js,mjs}"],
    languageOptions: {
      globals: {
        AbortController: "readonly",
        Request: "readonly",
        URL: "readonly",
        console: "readonly",
        document: "readonly",
        fetch: "readonly",
        process: "readonly",
        setTimeout: "readonly",
      },
    },
  },
  { files: ["**/*.js"], languageOptions: { globals: { process: "readonly", console: "readonly", URL: "readonly" } } },
);
