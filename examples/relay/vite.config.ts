import { defineConfig } from "vite";
import relay from "vite-plugin-relay";

const target = process.env["PARLEY_URL"] ?? "http://localhost:4000";

export default defineConfig({ plugins: [relay], server: { proxy: { "/graphql": { target, ws: true } } } });
