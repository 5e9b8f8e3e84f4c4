# The gateway alone; docker-compose.yml brings a Redis along. Node comes from the image, not from the devDependency, but is
# the same version (a test holds them against each other).
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Nothing is built at install; the one script there is would only fetch a second Node.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY scripts scripts
COPY src src
# The console is built of these.
COPY packages packages
RUN node scripts/build.ts

FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts

FROM ${NODE_IMAGE}
# What installs packages is of no use to the gateway, and of some to who breaks in.
RUN rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack \
  /opt/yarn* /usr/local/bin/yarn /usr/local/bin/yarnpkg
# It is reached from elsewhere, so it starts only with AUTH=jwt or AUTH=keys (or ALLOW_ANONYMOUS=1, for everyone).
ENV NODE_ENV=production HOST=0.0.0.0 PORT=4000
WORKDIR /app
# All of it is root's: the gateway may read it and change nothing. It writes no file (without REDIS_URL it would: .parley/),
# so the root may be read-only.
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json ./
COPY bin bin
# node's, as a number: Kubernetes cannot see that a name is not root's (runAsNonRoot).
USER 1000:1000
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 4000) + '/readyz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# As `npm start`, but not through npm, which would keep SIGTERM for itself.
CMD ["node", "--max-semi-space-size=16", "bin/parley.js"]
