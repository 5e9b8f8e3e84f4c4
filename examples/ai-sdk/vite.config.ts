import { defineConfig } from "vite";

const target = process.env["PARLEY_URL"] ?? "http://localhost:4000";

export default defineConfig({ server: { proxy: { "/graphql": { target, ws: true } } } });
