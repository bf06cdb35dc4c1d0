// TypeScript's decorators without its compiler.

require('reflect-metadata')

// `methods` names, for each method, its decorators and those of its parameters; `parameters` are the constructor's.
exports.decorate = (type, { decorators = [], parameters = [], methods = {} }) => {
  parameters.forEach((decorator, index) => decorator(type, undefined, index))
  for (const [name, [own, ...ofParameters]] of Object.entries(methods)) {
    ofParameters.forEach((decorator, index) => decorator(type.prototype, name, index))
    const described = Reflect.decorate([own].flat(), type.prototype, name, Object.getOwnPropertyDescriptor(type.prototype, name))
    Object.defineProperty(type.prototype, name, described)
  }
  return Reflect.decorate(decorators, type)
}
