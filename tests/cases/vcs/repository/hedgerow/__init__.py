hawthorn = "Crataegus"
